// How a raw copy of a database's default directory fits the policy of the tablespace that it goes to, and what is done where it does not.
//
// Key files travel with a raw copy, so whatever the form of a relation is, it stays readable; but plain relations may come to lie in a sealed
// tablespace, sealed ones in a plain one, and relations in transition anywhere. An operation on the destination brings them in order.
#pragma once

#include "../pg.hpp"

namespace seal::pg {

struct RawCopyFit {
	bool destination_sealed;
	int misfits;       // plain where the destination is sealed, sealed where it is plain
	int in_transition; // on their way to another form
	int other_keyring; // sealed by another keyring than the destination's: they stay so
};

// `database`: the source, or the finished copy.
RawCopyFit raw_copy_fit(Oid database, Oid destination);

// Before the copy. With pg_seal.require_encryption: ERROR or WARNING when relations would be copied in clear.
void check_raw_copy(Oid database, const char* database_name, Oid destination, const char* hint);

// After the copy, before the transaction commits: NOTICEs, and an operation on the destination if one is needed. Throws SealError.
void mend_raw_copy(Oid database, const char* database_name, Oid destination, const char* statement);

} // namespace seal::pg
