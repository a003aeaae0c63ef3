// flawmap_detect MODEL.onnx IMAGE...: a JSON object for each image, as `flawmap detect --json` prints them, without
// pictures and regions. Exit code 0, or 2 if the model cannot be used or an image was not scored.
#include <cmath>
#include <iostream>
#include <string>

#include <nlohmann/json.hpp>
#include <onnxruntime_cxx_api.h>

#include "read_image.hpp"
#include "resize.hpp"
#include "self_test.hpp"
#include "tiles.hpp"

using nlohmann::json;

constexpr int newest_format = 5;

struct Scored {
    json scores;  // by name
    float map_peak;
    bool is_finite;
};

class Model {
  public:
    explicit Model(const std::string &path) : session_(environment_, path.c_str(), one_thread()) {
        Ort::AllocatorWithDefaultOptions allocator;
        const auto text = session_.GetModelMetadata().LookupCustomMetadataMapAllocated("flawmap", allocator);
        if (!text) throw std::runtime_error("it was not written by flawmap export");
        facts = json::parse(text.get());
        if (facts.at("format") > newest_format) throw std::runtime_error("it is of a newer flawmap");
        if (facts.contains("roi") && !facts["roi"].is_null())
            throw std::runtime_error("it has a region of interest, which this program does not know");
        for (const std::string name : facts.at("score_names"))
            if (name.starts_with("appearance_distance:"))
                throw std::runtime_error("it knows several products, which this program does not");
        const Image image = self_test_image();
        const auto &expected = facts.at("self_test");
        if (expected.is_null()) throw std::runtime_error("it has no self-test: export it again");
        const Scored found = score(image);
        const double score_differs_by = std::abs(found.scores.at("mean_logit").get<double>() - expected.at("score").get<double>());
        const double map_differs_by = std::abs(found.map_peak - expected.at("map_peak").get<double>());
        if (!(score_differs_by <= expected.at("tolerance").get<double>()) ||
            !(map_differs_by <= expected.at("map_tolerance").get<double>()))
            throw std::runtime_error("it fails its self-test");
    }

    Scored score(const Image &image) {
        std::vector<std::vector<std::uint8_t>> bytes;
        std::vector<Ort::Value> inputs;
        std::vector<std::string> names;
        for (const int side : facts.at("sizes_px")) {
            bytes.push_back(resized(image, side, side).pixels);
            names.push_back("square_" + std::to_string(side) + "px");
        }
        std::vector<std::int64_t> places, size_px{image.height, image.width};
        for (std::size_t k = 0; k < bytes.size(); ++k) {
            const std::int64_t side = facts.at("sizes_px")[k];
            inputs.push_back(tensor(bytes[k], {1, side, side, 3}));
        }
        std::vector<std::uint8_t> tiles;
        if (const auto &tiling = facts.value("tiling", json()); !tiling.is_null()) {
            const Tiling cut{tiling.at("scale"), tiling.at("side"), tiling.at("patch_size_px")};
            tiles = cut.tiles(image);
            for (const auto &[row, column] : cut.places(image.height, image.width)) places.insert(places.end(), {row, column});
            const std::int64_t count = std::int64_t(places.size()) / 2;
            inputs.push_back(tensor(tiles, {count, cut.side_px(), cut.side_px(), 3}));
            inputs.push_back(tensor(places, {count, 2}));
            names.insert(names.end(), {"tiles", "tile_places"});
        }
        inputs.push_back(tensor(size_px, {2}));
        names.push_back("size_px");
        std::vector<const char *> input_names;
        for (const auto &name : names) input_names.push_back(name.c_str());
        const char *output_names[] = {"anomaly_map", "scores"};
        auto outputs = session_.Run(Ort::RunOptions{}, input_names.data(), inputs.data(), inputs.size(), output_names, 2);
        Scored found{json::object(), -INFINITY, true};
        const float *map = outputs[0].GetTensorData<float>(), *scores = outputs[1].GetTensorData<float>();
        for (std::size_t k = 0; k < outputs[0].GetTensorTypeAndShapeInfo().GetElementCount(); ++k) {
            found.map_peak = std::max(found.map_peak, map[k]);
            found.is_finite = found.is_finite && std::isfinite(map[k]);
        }
        for (std::size_t k = 0; k < facts.at("score_names").size(); ++k) {
            found.scores[facts["score_names"][k].get<std::string>()] = double(scores[k]);
            found.is_finite = found.is_finite && std::isfinite(scores[k]);
        }
        return found;
    }

    json facts;

  private:
    static Ort::SessionOptions one_thread() {
        Ort::SessionOptions options;
        options.SetIntraOpNumThreads(1);
        options.DisableCpuMemArena();  // images have many sizes
        options.DisableMemPattern();
        return options;
    }

    template <typename T>
    static Ort::Value tensor(std::vector<T> &values, std::vector<std::int64_t> shape) {
        const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
        return Ort::Value::CreateTensor<T>(memory, values.data(), values.size(), shape.data(), shape.size());
    }

    Ort::Env environment_{ORT_LOGGING_LEVEL_ERROR, "flawmap_detect"};
    Ort::Session session_;
};

json verdict(const json &facts, const Scored &found) {
    const auto &calibration = facts.at("calibration");
    const json threshold = calibration.is_null() ? json() : calibration.at("threshold");
    const double score = found.scores.at(facts.at("image_score").get<std::string>());
    const bool is_anomalous = !threshold.is_null() && score > threshold.get<double>();
    return {{"score", score}, {"threshold", threshold}, {"is_anomalous", is_anomalous}, {"scores", found.scores}, {"map_peak", found.map_peak}};
}

int main(int count, char **words) {
    if (count < 3) {
        std::cerr << "usage: flawmap_detect MODEL.onnx IMAGE...\n";
        return 2;
    }
    int code = 0;
    try {
        Model model(words[1]);
        for (int number = 2; number < count; ++number) {
            json line{{"image", words[number]}};
            try {
                const Scored found = model.score(read_image(words[number]));
                if (!found.is_finite) throw std::runtime_error("the model gives no finite score or map");
                line.update(verdict(model.facts, found));
            } catch (const std::exception &error) {
                line["error"] = error.what();
                code = 2;
            }
            std::cout << line.dump() << std::endl;
        }
    } catch (const std::exception &error) {
        std::cerr << words[1] << ": " << error.what() << '\n';
        return 2;
    }
    return code;
}
