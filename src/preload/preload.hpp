// The state of the library in this process: its role and its keys. Set once by the constructor.
#pragma once

#include "parcel_keys.hpp"
#include "program.hpp"

namespace seal::preload {

extern Role role; // aside until the constructor has run
extern ParcelKeys keys;

} // namespace seal::preload
