#include "pkcs11_mechanism.hpp"

namespace seal::pkcs11 {

const Mechanism* find_mechanism(WrapMechanism id) noexcept
{
	for (const Mechanism* mechanism : {&kGcmMechanism, &kKeyWrapMechanism, &kCbcHmacMechanism})
		if (mechanism->id() == id)
			return mechanism;
	return nullptr;
}

bool token_offers(CK_FUNCTION_LIST* api, CK_SLOT_ID slot, CK_MECHANISM_TYPE type, CK_FLAGS flags)
{
	CK_MECHANISM_INFO info{};
	return api->C_GetMechanismInfo(slot, type, &info) == CKR_OK && (info.flags & flags) == flags;
}

} // namespace seal::pkcs11
