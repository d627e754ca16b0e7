// Old keys of finished transitions, erased when their time has come (keymap/transition_settle.cpp): the launcher's work when it has no other.
#pragma once

namespace seal::pg {

// At most once a minute; otherwise returns at once. Outside a transaction.
void settle_when_due();

} // namespace seal::pg
