// The seed of temporary and spill files, and the counters of their changes.
#include "vault_layout.hpp"

namespace seal::pg {

using namespace vault;

void vault_renew_temp_seed(const uint8 seed[kTempSeedSize]) noexcept
{
	Vault* const here = vault::vault;
	here->temp_seed.store(seed);
	set(here->temp_seed_number, get(here->temp_seed_number) + 1);
}

uint32 vault_temp_seed_number() noexcept { return vault::vault ? get(vault::vault->temp_seed_number) : 0; }

void vault_temp_seed(uint8 seed[kTempSeedSize]) noexcept { vault::vault->temp_seed.load(seed); }

TempChanges* vault_temp_changes() noexcept { return vault::vault ? vault::vault->temp_changes : nullptr; }

} // namespace seal::pg
