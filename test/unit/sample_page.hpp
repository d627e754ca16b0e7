// Pages for tests: a plausible header, and content that a generator makes from a seed.
#pragma once

#include "seal/page_format.hpp"

#include <array>
#include <cstdint>
#include <cstring>
#include <random>

namespace seal::test {

using Page = std::array<std::uint8_t, kPageSize>;
using Seed = std::array<std::uint8_t, 32>;

inline void put_u16(std::uint8_t* page, std::size_t at, std::uint16_t v) { std::memcpy(page + at, &v, sizeof v); }
inline std::uint16_t get_u16(const std::uint8_t* page, std::size_t at)
{
	std::uint16_t v;
	std::memcpy(&v, page + at, sizeof v);
	return v;
}

inline Page sample_page(std::uint64_t seed, std::uint16_t flags = 0)
{
	std::mt19937_64 random(seed);
	Page page;
	for (std::uint8_t& b : page)
		b = static_cast<std::uint8_t>(random());
	put_u16(page.data(), kPageFlagsOffset, flags);
	put_u16(page.data(), 12, 100);               // pd_lower
	put_u16(page.data(), kPageUpperOffset, 400); // pd_upper
	put_u16(page.data(), 16, 8192);              // pd_special
	put_u16(page.data(), 18, 0x2004);            // page size and layout version
	return page;
}

inline Seed sample_seed(std::uint8_t first)
{
	Seed seed;
	for (std::size_t i = 0; i < seed.size(); i++)
		seed[i] = static_cast<std::uint8_t>(first + 3 * i);
	return seed;
}

} // namespace seal::test
