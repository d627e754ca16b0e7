// A lock between processes of one user around C_Initialize ... C_Login of one module.
//
// SoftHSM rewrites a token's file at each login; another process that initialises at that moment sees no token. The
// lock is a cure for that race and for nothing else, so it is best effort: when it cannot be had in time, the caller
// goes on without it (and repeats the search for its token). It never blocks for longer than the deadline.
#pragma once

#include "seal/provider.hpp"

#include <string>

namespace seal::pkcs11 {

class InitLock {
public:
	InitLock(const std::string& module_path, Deadline deadline);
	InitLock(const InitLock&) = delete;
	InitLock& operator=(const InitLock&) = delete;
	~InitLock(); // releases it
	bool held() const noexcept { return held_; }

private:
	int fd_ = -1;
	bool held_ = false;
};

} // namespace seal::pkcs11
