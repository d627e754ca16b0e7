// What one 8 KiB page on disk is, judged without any key.
#pragma once

#include "seal/page_format.hpp"

#include <cstdint>

namespace seal::cli {

enum class PageKind { sealed, plain, zero, damaged };

struct PageVerdict {
	PageKind kind = PageKind::zero;
	PageMark mark{};              // sealed only
	const char* reason = nullptr; // damaged only
};

// `block` counts from the start of the fork. The checks are those of the server (header bounds, flags, checksum), and
// for a sealed page also that its cipher is a known one.
PageVerdict judge_page(const std::uint8_t* page, std::uint32_t block, bool checksums);

} // namespace seal::cli
