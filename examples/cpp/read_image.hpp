// PNG and JPEG files as 8-bit RGB. What flawmap reads by rules of its own is refused: 16 bits, transparency, CMYK, and
// photographs that are stored turned.
#pragma once

#include <csetjmp>
#include <cstdio>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>

#include <jpeglib.h>
#include <png.h>

#include "image.hpp"

namespace read_detail {

struct Close {
    void operator()(std::FILE *file) const { std::fclose(file); }
};
using File = std::unique_ptr<std::FILE, Close>;

inline Image read_png(std::FILE *file) {
    png_structp png = png_create_read_struct(PNG_LIBPNG_VER_STRING, nullptr,
        [](png_structp, png_const_charp message) { throw std::runtime_error(message); }, [](png_structp, png_const_charp) {});
    png_infop info = png_create_info_struct(png);
    struct Free {
        png_structp *png;
        png_infop *info;
        ~Free() { png_destroy_read_struct(png, info, nullptr); }
    } free{&png, &info};
    png_init_io(png, file);
    png_read_info(png, info);
    if (png_get_bit_depth(png, info) == 16) throw std::runtime_error("16 bits for each channel: convert it to 8");
    if (png_get_color_type(png, info) & PNG_COLOR_MASK_ALPHA || png_get_valid(png, info, PNG_INFO_tRNS))
        throw std::runtime_error("it has transparency: remove it");
    png_set_expand(png);
    png_set_gray_to_rgb(png);
    png_set_interlace_handling(png);
    png_read_update_info(png, info);
    Image image(int(png_get_image_height(png, info)), int(png_get_image_width(png, info)));
    std::vector<png_bytep> rows;
    for (int y = 0; y < image.height; ++y) rows.push_back(image.at(y, 0));
    png_read_image(png, rows.data());
    png_read_end(png, nullptr);
    return image;
}

// The orientation in an EXIF block that begins with "Exif\0\0", 1 where there is none.
inline int orientation(const unsigned char *block, unsigned size) {
    if (size < 14 || std::memcmp(block, "Exif\0\0", 6) != 0) return 1;
    const unsigned char *tiff = block + 6;
    const unsigned length = size - 6;
    const bool is_little = tiff[0] == 'I';
    const auto number = [&](unsigned at, int bytes) {
        unsigned value = 0;
        for (int k = 0; k < bytes && at + bytes <= length; ++k)
            value |= unsigned(tiff[at + k]) << 8 * (is_little ? k : bytes - 1 - k);
        return value;
    };
    const unsigned directory = number(4, 4);
    if (directory > length) return 1;
    for (unsigned entry = 0; entry < number(directory, 2); ++entry) {
        const unsigned at = directory + 2 + 12 * entry;
        if (number(at, 2) == 0x0112) return int(number(at + 8, 2));
    }
    return 1;
}

inline Image read_jpeg(std::FILE *file) {
    jpeg_decompress_struct jpeg;
    jpeg_error_mgr errors;
    jpeg.err = jpeg_std_error(&errors);
    errors.error_exit = [](j_common_ptr state) {
        char message[JMSG_LENGTH_MAX];
        state->err->format_message(state, message);
        throw std::runtime_error(message);
    };
    errors.emit_message = [](j_common_ptr state, int level) {
        if (level < 0) state->err->error_exit(state);  // a truncated or damaged file is no image
    };
    jpeg_create_decompress(&jpeg);
    struct Free {
        jpeg_decompress_struct *jpeg;
        ~Free() { jpeg_destroy_decompress(jpeg); }
    } free{&jpeg};
    jpeg_stdio_src(&jpeg, file);
    jpeg_save_markers(&jpeg, JPEG_APP0 + 1, 0xFFFF);
    jpeg_read_header(&jpeg, TRUE);
    for (auto marker = jpeg.marker_list; marker; marker = marker->next)
        if (const int found = orientation(marker->data, marker->data_length); found > 1 && found <= 8)
            throw std::runtime_error("it is stored turned (EXIF orientation): turn its pixels");
    if (jpeg.num_components != 1 && jpeg.num_components != 3) throw std::runtime_error("it is not grey or RGB");
    jpeg.out_color_space = JCS_RGB;
    jpeg_start_decompress(&jpeg);
    Image image(int(jpeg.output_height), int(jpeg.output_width));
    while (jpeg.output_scanline < jpeg.output_height) {
        JSAMPROW row = image.at(int(jpeg.output_scanline), 0);
        jpeg_read_scanlines(&jpeg, &row, 1);
    }
    jpeg_finish_decompress(&jpeg);
    return image;
}

}  // namespace read_detail

inline Image read_image(const std::string &path) {
    read_detail::File file(std::fopen(path.c_str(), "rb"));
    if (!file) throw std::runtime_error("it cannot be read");
    unsigned char head[8] = {};
    const std::size_t size = std::fread(head, 1, sizeof head, file.get());
    std::rewind(file.get());
    if (size == sizeof head && png_sig_cmp(head, 0, sizeof head) == 0) return read_detail::read_png(file.get());
    if (size > 2 && head[0] == 0xFF && head[1] == 0xD8) return read_detail::read_jpeg(file.get());
    throw std::runtime_error("it is neither PNG nor JPEG");
}
