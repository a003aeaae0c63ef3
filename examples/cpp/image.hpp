// An image: 8-bit RGB, row by row.
#pragma once

#include <cstdint>
#include <vector>

struct Image {
    int height = 0, width = 0;
    std::vector<std::uint8_t> pixels;  // height x width x 3

    Image() = default;
    Image(int height, int width) : height(height), width(width), pixels(std::size_t(height) * width * 3) {}

    std::uint8_t *at(int row, int column) { return pixels.data() + (std::size_t(row) * width + column) * 3; }
    const std::uint8_t *at(int row, int column) const { return pixels.data() + (std::size_t(row) * width + column) * 3; }
};
