#include "seal/codec.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

namespace seal {
namespace {

TEST(Hex, RoundTripAndRefusals)
{
	Bytes out;
	EXPECT_EQ(to_hex(Bytes{0x00, 0x0f, 0xa5, 0xff}), "000fa5ff");
	EXPECT_TRUE(from_hex("000Fa5fF", out));
	EXPECT_EQ(out, (Bytes{0x00, 0x0f, 0xa5, 0xff}));
	EXPECT_TRUE(from_hex("", out));
	EXPECT_TRUE(out.empty());
	for (const char* bad : {"0", "0g", "g0", " 0", "0x00", "00 "})
		EXPECT_FALSE(from_hex(bad, out)) << bad;
}

TEST(Secret, MovesAndClears)
{
	Secret a = Secret::copy_of(Bytes{1, 2, 3});
	Secret b = std::move(a);
	EXPECT_TRUE(a.empty());
	ASSERT_EQ(b.size(), 3u);
	EXPECT_EQ(b.reveal(RevealToken{})[2], 3);
	a = std::move(b);
	EXPECT_EQ(a.size(), 3u);
	a.clear();
	EXPECT_TRUE(a.empty());
	EXPECT_TRUE(Secret::copy_of({}).empty());
}

TEST(Secret, WipeLeavesZeros)
{
	Bytes bytes(100, 7);
	wipe_message(bytes);
	EXPECT_EQ(bytes, Bytes(100));
	Bytes nothing;
	wipe_message(nothing);
}

Bytes sample_message()
{
	Writer w;
	w.u8(200);
	w.u32(0x01020304);
	w.u64(0x0102030405060708);
	w.f64(-1.5);
	w.bytes(Bytes{9, 8, 7});
	w.text("text");
	w.secret(Secret::copy_of(Bytes{5, 5}));
	w.text("");
	return w.take();
}

void read_sample(Reader& r)
{
	(void) r.u8();
	(void) r.u32();
	(void) r.u64();
	(void) r.f64();
	(void) r.bytes();
	(void) r.text();
	(void) r.secret();
	(void) r.text();
}

TEST(Codec, RoundTrip)
{
	const Bytes message = sample_message();
	EXPECT_EQ(to_hex(ByteView(message).first(5)), "c804030201") << "little endian, always";
	Reader r(message);
	EXPECT_EQ(r.u8(), 200);
	EXPECT_EQ(r.u32(), 0x01020304u);
	EXPECT_EQ(r.u64(), 0x0102030405060708u);
	EXPECT_EQ(r.f64(), -1.5);
	const ByteView b = r.bytes();
	EXPECT_EQ(Bytes(b.begin(), b.end()), (Bytes{9, 8, 7}));
	EXPECT_EQ(r.text(), "text");
	const Secret s = r.secret();
	ASSERT_EQ(s.size(), 2u);
	EXPECT_EQ(s.reveal(RevealToken{})[0], 5);
	EXPECT_FALSE(r.at_end());
	EXPECT_EQ(r.text(), "");
	EXPECT_TRUE(r.at_end());
}

TEST(Codec, DoublesKeepEveryBit)
{
	for (const double v : {0.0, -0.0, 1e-310, std::numeric_limits<double>::infinity(), 12.25}) {
		Writer w;
		w.f64(v);
		Reader r(w.message());
		const double back = r.f64();
		EXPECT_EQ(back, v);
		EXPECT_EQ(std::signbit(back), std::signbit(v));
	}
}

TEST(Codec, EveryTruncationTurnsOkOffAndReadsNothingMore)
{
	const Bytes message = sample_message();
	for (std::size_t n = 0; n < message.size(); n++) {
		const Bytes shorter(message.begin(),
		                    message.begin() + static_cast<std::ptrdiff_t>(n)); // its own heap block for ASan
		Reader r(shorter);
		read_sample(r);
		ASSERT_FALSE(r.ok()) << n;
		ASSERT_FALSE(r.at_end());
		EXPECT_EQ(r.u64(), 0u);
		EXPECT_TRUE(r.text().empty());
	}
}

TEST(Codec, HugeLengthsDoNotWrapAround)
{
	for (const std::uint32_t length : {5u, 0x7FFFFFFFu, 0xFFFFFFFFu}) {
		Writer w;
		w.u32(length);
		w.u32(0);
		Reader r(w.message());
		EXPECT_TRUE(r.bytes().empty());
		EXPECT_FALSE(r.ok());
	}
}

TEST(Codec, GrowingKeepsTheContent)
{
	Writer w;
	for (std::uint32_t i = 0; i < 10000; i++)
		w.u32(i);
	const Bytes message = w.take();
	EXPECT_TRUE(w.message().empty());
	Reader r(message);
	for (std::uint32_t i = 0; i < 10000; i++)
		ASSERT_EQ(r.u32(), i);
	EXPECT_TRUE(r.at_end());
}

TEST(Codec, RandomBytesNeverReadPastTheEnd)
{
	std::mt19937 random(20240611);
	for (int round = 0; round < 20000; round++) {
		Bytes message(random() % 64);
		for (std::uint8_t& b : message)
			b = static_cast<std::uint8_t>(random() % 4 == 0 ? random() : random() % 8);
		Reader r(message);
		read_sample(r);
	}
}

} // namespace
} // namespace seal
