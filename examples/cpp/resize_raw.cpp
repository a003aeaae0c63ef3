// resize_raw HEIGHT WIDTH NEW_HEIGHT NEW_WIDTH: raw RGB from standard input, resized to standard output.
#include <cstdio>
#include <cstdlib>

#include "resize.hpp"

int main(int count, char **words) {
    if (count != 5) return 2;
    Image image(std::atoi(words[1]), std::atoi(words[2]));
    if (std::fread(image.pixels.data(), 1, image.pixels.size(), stdin) != image.pixels.size()) return 2;
    const Image result = resized(image, std::atoi(words[3]), std::atoi(words[4]));
    return std::fwrite(result.pixels.data(), 1, result.pixels.size(), stdout) == result.pixels.size() ? 0 : 2;
}
