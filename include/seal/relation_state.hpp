// What a relation is, in the words of seal.relations and of pgseal scan: one rule for both, so that they agree.
//
// Judged by the relation's live key record (all of it free and none where there is no record) and by which kinds of pages lie
// on disk. Needs no key.
#pragma once

#include "seal/key_slot.hpp"

namespace seal {

inline constexpr const char* relation_state_name(SlotState state, KeyForm form, KeyForm old_form, bool any_sealed,
                                                 bool any_plain) noexcept
{
	if (slot_in_transition(state)) {
		if (form.cipher == CipherId::none)
			return "unsealing";
		return old_form.cipher == CipherId::none ? "sealing" : "rotating";
	}
	if (form.cipher != CipherId::none)
		return any_plain ? "partly plain" : "sealed";
	if (!any_sealed)
		return "plain";
	return state == SlotState::finished && old_form.cipher != CipherId::none ? "partly sealed" : "key missing";
}

} // namespace seal
