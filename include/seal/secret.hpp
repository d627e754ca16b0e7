// Secret: bytes that must not leak. Move-only, wiped when destroyed or overwritten, never printed or compared.
//
// Reading the bytes takes a RevealToken, so that `grep RevealToken` lists every place that touches key material.
// The buffer comes from the ordinary heap (it is wiped, not locked); long-lived unlocked keys live in the
// server's locked mapping instead (src/pg/vault).
#pragma once

#include "seal/bytes.hpp"

#include <cstring>
#include <memory>

namespace seal {

struct RevealToken {
	explicit RevealToken() = default;
};

void wipe(void* bytes, std::size_t size) noexcept; // OPENSSL_cleanse: never optimised away

class Secret {
public:
	Secret() noexcept = default;
	explicit Secret(std::size_t size) : bytes_(new std::uint8_t[size]()), size_(size) {}
	static Secret copy_of(ByteView bytes)
	{
		Secret s(bytes.size());
		if (!bytes.empty())
			std::memcpy(s.bytes_.get(), bytes.data(), bytes.size());
		return s;
	}

	Secret(Secret&& other) noexcept : bytes_(std::move(other.bytes_)), size_(other.size_) { other.size_ = 0; }
	Secret& operator=(Secret&& other) noexcept
	{
		if (this != &other) {
			clear();
			bytes_ = std::move(other.bytes_);
			size_ = other.size_;
			other.size_ = 0;
		}
		return *this;
	}
	Secret(const Secret&) = delete;
	Secret& operator=(const Secret&) = delete;
	bool operator==(const Secret&) const = delete;
	~Secret() { clear(); }

	std::size_t size() const noexcept { return size_; }
	bool empty() const noexcept { return size_ == 0; }
	ByteView reveal(RevealToken) const noexcept { return {bytes_.get(), size_}; }
	MutableBytes reveal_mutable(RevealToken) noexcept { return {bytes_.get(), size_}; }
	void clear() noexcept
	{
		if (bytes_)
			wipe(bytes_.get(), size_);
		bytes_.reset();
		size_ = 0;
	}

private:
	std::unique_ptr<std::uint8_t[]> bytes_;
	std::size_t size_ = 0;
};

} // namespace seal
