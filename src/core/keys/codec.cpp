#include "seal/codec.hpp"

#include <algorithm>
#include <bit>

namespace seal {

void Writer::append(ByteView v)
{
	if (out_.capacity() - out_.size() < v.size()) {
		// Not left to the vector: it would free the old buffer with secrets in it.
		Bytes larger;
		larger.reserve(std::max(out_.size() + v.size(), 2 * out_.capacity() + 64));
		larger.assign(out_.begin(), out_.end());
		wipe_message(out_);
		out_.swap(larger);
	}
	out_.insert(out_.end(), v.begin(), v.end());
}

void Writer::u32(std::uint32_t v)
{
	std::uint8_t b[4];
	for (int i = 0; i < 4; i++)
		b[i] = static_cast<std::uint8_t>(v >> (8 * i));
	append(b);
}

void Writer::u64(std::uint64_t v)
{
	std::uint8_t b[8];
	for (int i = 0; i < 8; i++)
		b[i] = static_cast<std::uint8_t>(v >> (8 * i));
	append(b);
}

void Writer::f64(double v) { u64(std::bit_cast<std::uint64_t>(v)); }

void Writer::bytes(ByteView v)
{
	u32(static_cast<std::uint32_t>(v.size())); // messages are bounded far below 4 GB (kMaxFrame, WAL records)
	append(v);
}

void Writer::secret(const Secret& v) { bytes(v.reveal(RevealToken{})); }

ByteView Reader::take(std::size_t n) noexcept
{
	if (!ok_ || n > rest_.size()) {
		ok_ = false;
		return {};
	}
	const ByteView taken = rest_.first(n);
	rest_ = rest_.subspan(n);
	return taken;
}

std::uint8_t Reader::u8() noexcept
{
	const ByteView b = take(1);
	return b.empty() ? std::uint8_t{0} : b[0];
}

std::uint32_t Reader::u32() noexcept
{
	std::uint32_t v = 0;
	const ByteView b = take(4);
	for (std::size_t i = 0; i < b.size(); i++)
		v |= static_cast<std::uint32_t>(b[i]) << (8 * i);
	return v;
}

std::uint64_t Reader::u64() noexcept
{
	std::uint64_t v = 0;
	const ByteView b = take(8);
	for (std::size_t i = 0; i < b.size(); i++)
		v |= static_cast<std::uint64_t>(b[i]) << (8 * i);
	return v;
}

double Reader::f64() noexcept { return std::bit_cast<double>(u64()); }

ByteView Reader::bytes() noexcept { return take(u32()); }

std::string Reader::text()
{
	const ByteView b = bytes();
	return {reinterpret_cast<const char*>(b.data()), b.size()};
}

Secret Reader::secret() { return Secret::copy_of(bytes()); }

} // namespace seal
