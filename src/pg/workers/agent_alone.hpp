// Single-user mode has no agent worker. What the worker would load after start is loaded before: the DEKs that the key files name,
// and a small pool for new relations.
#pragma once

namespace seal::pg {

// Starts an agent, uses it synchronously, ends it. Without 'hsm' keyrings it does nothing. What cannot be loaded is logged:
// relations of other keyrings stay usable.
void load_hsm_keys_alone();

} // namespace seal::pg
