// A progress line on standard error, only where that is a terminal; redrawn at most ten times a second.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace seal::cli {

class ProgressBar {
public:
	ProgressBar(std::uint64_t total_bytes, bool wanted);
	ProgressBar(const ProgressBar&) = delete;
	ProgressBar& operator=(const ProgressBar&) = delete;
	~ProgressBar(); // clears the line
	void advance(std::uint64_t bytes);

private:
	void draw();
	std::uint64_t total_, done_ = 0;
	bool active_, drawn_ = false;
	std::chrono::steady_clock::time_point begin_, last_;
};

std::string size_text(std::uint64_t bytes); // "512 kB", "1.4 GB"

} // namespace seal::cli
