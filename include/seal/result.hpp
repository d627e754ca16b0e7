// Result<T>: a value or an Error. The core's way to report expected failures.
#pragma once

#include "seal/error.hpp"

#include <utility>
#include <variant>

namespace seal {

struct Unit {};

template <class T> class [[nodiscard]] Result {
public:
	Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
	Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}

	explicit operator bool() const noexcept { return state_.index() == 0; }
	bool ok() const noexcept { return state_.index() == 0; }

	T& value() & noexcept { return *std::get_if<0>(&state_); }
	const T& value() const& noexcept { return *std::get_if<0>(&state_); }
	T&& value() && noexcept { return std::move(*std::get_if<0>(&state_)); }
	T& operator*() & noexcept { return value(); }
	const T& operator*() const& noexcept { return value(); }
	T* operator->() noexcept { return &value(); }
	const T* operator->() const noexcept { return &value(); }

	Error& error() noexcept { return *std::get_if<1>(&state_); }
	const Error& error() const noexcept { return *std::get_if<1>(&state_); }

private:
	std::variant<T, Error> state_;
};

using Status = Result<Unit>;
inline Status ok_status() { return Unit{}; }

} // namespace seal
