// Bounded little-endian encoder and decoder for messages (agent protocol, WAL payloads). Never reads past the end:
// a short or malformed message turns the Reader's ok() to false and every later read returns zero or empty.
#pragma once

#include "seal/bytes.hpp"
#include "seal/secret.hpp"

#include <string>
#include <utility>

namespace seal {

// A Writer that grows or dies wipes the memory it gives back, because messages may hold secrets; what take() hands out
// is the caller's to wipe (wipe_message).
class Writer {
public:
	Writer() = default;
	Writer(const Writer&) = delete;
	Writer& operator=(const Writer&) = delete;
	~Writer() { wipe(out_.data(), out_.size()); }
	void u8(std::uint8_t v) { append({&v, 1}); }
	void u32(std::uint32_t v);
	void u64(std::uint64_t v);
	void f64(double v);
	void bytes(ByteView v); // u32 length, then the bytes
	void text(std::string_view v) { bytes(as_bytes(v)); }
	void secret(const Secret& v); // as bytes(); the message then must be wiped by its owner (wipe_message)
	const Bytes& message() const noexcept { return out_; }
	Bytes take() noexcept { return std::exchange(out_, {}); }

private:
	void append(ByteView v);
	Bytes out_;
};

class Reader {
public:
	explicit Reader(ByteView message) noexcept : rest_(message) {}
	std::uint8_t u8() noexcept;
	std::uint32_t u32() noexcept;
	std::uint64_t u64() noexcept;
	double f64() noexcept;
	ByteView bytes() noexcept; // a view into the message
	std::string text();
	Secret secret();
	bool ok() const noexcept { return ok_; }
	bool at_end() const noexcept { return ok_ && rest_.empty(); }

private:
	ByteView take(std::size_t n) noexcept;
	ByteView rest_;
	bool ok_ = true;
};

inline void wipe_message(Bytes& message) noexcept { wipe(message.data(), message.size()); }

} // namespace seal
