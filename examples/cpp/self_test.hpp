// flawmap's self-test image: a gradient with a grid, and grain from SHAKE-256, the same bytes everywhere.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "image.hpp"

namespace self_test_detail {

inline std::uint64_t turned(std::uint64_t x, int bits) { return bits ? x << bits | x >> (64 - bits) : x; }

// Keccak-f[1600] on 5 x 5 lanes, lane (x, y) at x + 5 y.
inline void permute(std::uint64_t *lanes) {
    std::uint8_t feedback = 1;  // the register that makes the round constants
    for (int round = 0; round < 24; ++round) {
        std::uint64_t parity[5], moved[25];
        for (int x = 0; x < 5; ++x)
            parity[x] = lanes[x] ^ lanes[x + 5] ^ lanes[x + 10] ^ lanes[x + 15] ^ lanes[x + 20];
        for (int at = 0; at < 25; ++at) lanes[at] ^= parity[(at + 4) % 5] ^ turned(parity[(at + 1) % 5], 1);
        moved[0] = lanes[0];
        for (int x = 1, y = 0, step = 1; step <= 24; ++step) {
            const int to = y + 5 * ((2 * x + 3 * y) % 5);
            moved[to] = turned(lanes[x + 5 * y], step * (step + 1) / 2 % 64);
            const int next = (2 * x + 3 * y) % 5;
            x = y, y = next;
        }
        for (int y = 0; y < 25; y += 5)
            for (int x = 0; x < 5; ++x) lanes[y + x] = moved[y + x] ^ (~moved[y + (x + 1) % 5] & moved[y + (x + 2) % 5]);
        for (int bit = 0; bit < 7; ++bit) {
            if (feedback & 1) lanes[0] ^= std::uint64_t(1) << ((1 << bit) - 1);
            feedback = std::uint8_t(feedback << 1 ^ (feedback >> 7) * 0x71);
        }
    }
}

// SHAKE-256 of a text shorter than a block.
inline std::vector<std::uint8_t> shake_256(const std::string &text, std::size_t size) {
    constexpr std::size_t block = 136;
    std::uint64_t lanes[25] = {};
    const auto add = [&](std::size_t at, std::uint8_t byte) { lanes[at / 8] ^= std::uint64_t(byte) << 8 * (at % 8); };
    for (std::size_t at = 0; at < text.size(); ++at) add(at, std::uint8_t(text[at]));
    add(text.size(), 0x1F);
    add(block - 1, 0x80);
    std::vector<std::uint8_t> bytes;
    while (bytes.size() < size) {
        permute(lanes);
        for (std::size_t at = 0; at < block && bytes.size() < size; ++at)
            bytes.push_back(std::uint8_t(lanes[at / 8] >> 8 * (at % 8)));
    }
    return bytes;
}

}  // namespace self_test_detail

inline Image self_test_image() {
    Image image(64, 97);
    const auto grain = self_test_detail::shake_256("flawmap self-test", image.pixels.size());
    std::size_t at = 0;
    for (int row = 0; row < image.height; ++row)
        for (int column = 0; column < image.width; ++column)
            for (int channel = 0; channel < 3; ++channel, ++at) {
                const int grid = 24 * ((row / 8 + column / 8) % 2);
                image.pixels[at] = std::uint8_t(40 + row + column + 8 * channel + grid - 16 + grain[at] / 8);
            }
    return image;
}
