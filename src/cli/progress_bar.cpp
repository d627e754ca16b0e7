#include "progress_bar.hpp"

#include <algorithm>
#include <cstdio>
#include <unistd.h>

namespace seal::cli {

ProgressBar::ProgressBar(std::uint64_t total_bytes, bool wanted)
	: total_(total_bytes), active_(wanted && isatty(STDERR_FILENO)), begin_(std::chrono::steady_clock::now()),
	  last_(begin_)
{}

ProgressBar::~ProgressBar()
{
	if (drawn_)
		std::fprintf(stderr, "\r\033[K");
}

void ProgressBar::advance(std::uint64_t bytes)
{
	done_ += bytes;
	const auto now = std::chrono::steady_clock::now();
	if (!active_ || now - last_ < std::chrono::milliseconds(100))
		return;
	last_ = now;
	draw();
}

void ProgressBar::draw()
{
	constexpr int kWidth = 32;
	const double part = total_ ? std::min(1.0, static_cast<double>(done_) / static_cast<double>(total_)) : 1.0;
	const double seconds = std::chrono::duration<double>(last_ - begin_).count();
	char bar[kWidth + 1] = {};
	for (int i = 0; i < kWidth; ++i)
		bar[i] = i < static_cast<int>(part * kWidth) ? '#' : '.';
	std::fprintf(stderr, "\r[%s] %3.0f%%  %s of %s, %s/s\033[K", bar, part * 100, size_text(done_).c_str(),
	             size_text(total_).c_str(),
	             size_text(seconds > 0 ? static_cast<std::uint64_t>(static_cast<double>(done_) / seconds) : 0).c_str());
	drawn_ = true;
}

std::string size_text(std::uint64_t bytes)
{
	const char* const units[] = {"bytes", "kB", "MB", "GB", "TB"};
	double value = static_cast<double>(bytes);
	int unit = 0;
	for (; value >= 10240 && unit < 4; ++unit)
		value /= 1024;
	char text[32];
	std::snprintf(text, sizeof text, "%.0f %s", value, units[unit]);
	return text;
}

} // namespace seal::cli
