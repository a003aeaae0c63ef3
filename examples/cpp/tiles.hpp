// How flawmap cuts an image into overlapping tiles: squares of patches of an image resized to whole patches.
#pragma once

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "resize.hpp"

struct Tiling {
    double scale;  // pixels of the resized image per pixel of the original
    int side;      // of a tile, in patches
    int patch_size_px;

    int side_px() const { return side * patch_size_px; }

    int patches(int length_px) const { return std::max(side, int(length_px * scale / patch_size_px + 0.5)); }

    // Where tiles begin that cover this many patches evenly; two neighbours share two patches at least.
    std::vector<int> starts(int length) const {
        if (length <= side) return {0};
        const int count = (length - 2 + side - 2 - 1) / (side - 2);
        std::vector<int> found;
        for (int number = 0; number < count; ++number)  // a half is rounded to the even number, as in Python
            found.push_back(int(std::nearbyint(double(number * (length - side)) / (count - 1))));
        return found;
    }

    // Row and column of the first patch of each tile, row by row.
    std::vector<std::pair<int, int>> places(int height_px, int width_px) const {
        std::vector<std::pair<int, int>> found;
        for (const int row : starts(patches(height_px)))
            for (const int column : starts(patches(width_px))) found.emplace_back(row, column);
        return found;
    }

    // The pixels of all tiles, (t, s, s, 3).
    std::vector<std::uint8_t> tiles(const Image &image) const {
        const Image whole = resized(image, patches(image.height) * patch_size_px, patches(image.width) * patch_size_px);
        std::vector<std::uint8_t> all;
        for (const auto &[row, column] : places(image.height, image.width))
            for (int y = 0; y < side_px(); ++y) {
                const std::uint8_t *first = whole.at(row * patch_size_px + y, column * patch_size_px);
                all.insert(all.end(), first, first + std::size_t(side_px()) * 3);
            }
        return all;
    }
};
