// Walks every key file of this node and shows the slots whose DEK is wrapped by a provider ('hsm' keyrings).
#pragma once

#include "../pg.hpp"

#include "seal/key_slot.hpp"

#include <functional>

namespace seal::pg {

// Reads beside running writers: a page whose checksum does not fit is read again, and left out after some tries (whoever
// needs one of its keys asks for it by name). Raises nothing; databases and tablespaces may come and go meanwhile.
void visit_hsm_slots(const std::function<void(const KeySlot&)>& visit);

} // namespace seal::pg
