#include "page_seal.hpp"

#include "../vault/vault.hpp"

extern "C" {
#include "access/xlog.h"
#include "access/xlogutils.h"
#include "storage/bufpage.h"
#include "storage/smgr.h"
}

#include <cstddef>
#include <cstring>

namespace seal::pg {

static_assert(BLCKSZ == kPageSize && SizeOfPageHeaderData == kPageHeaderSize);
static_assert(offsetof(PageHeaderData, pd_checksum) == kPageChecksumOffset);
static_assert(offsetof(PageHeaderData, pd_flags) == kPageFlagsOffset);
static_assert(offsetof(PageHeaderData, pd_upper) == kPageUpperOffset);
static_assert(PD_VALID_FLAG_BITS == kFlagsPlainMask);

namespace {

inline PageHeader header_of(uint8* page) noexcept { return reinterpret_cast<PageHeader>(page); }
inline const PageHeaderData* header_of(const uint8* page) noexcept { return reinterpret_cast<const PageHeaderData*>(page); }

inline ForkClass fork_class(ForkNumber fork) noexcept
{
	switch (fork) {
	case FSM_FORKNUM: return ForkClass::fsm;
	case VISIBILITYMAP_FORKNUM: return ForkClass::vm;
	default: return ForkClass::main; // main and init
	}
}

inline XLogRecPtr page_lsn(const uint8* page) noexcept { return PageXLogRecPtrGet(header_of(page)->pd_lsn); }

// A cipher refusing on a ready context is a failure of the library: nothing sensible was written.
[[noreturn]] void raise_cipher_failure(const RelFileNodeBackend& rnode, ForkNumber fork, BlockNumber block)
{
	ereport(ERROR, (errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
	                errmsg("the cryptographic library failed on block %u of relation %s", block, relpath(rnode, fork))));
	pg_unreachable();
}

[[noreturn]] void raise_missing_key(const RelFileNodeBackend& rnode, ForkNumber fork, BlockNumber block)
{
	ereport(ERROR,
	        (errcode(ERRCODE_DATA_CORRUPTED),
	         errmsg("the key of sealed block %u of relation %s is missing", block, relpath(rnode, fork)),
	         errdetail("The key file of database %u holds no record of the key that sealed this page.", rnode.node.dbNode),
	         errhint("Restore the file \"%s\" of that database from the same backup as its data.", kKeyFileName)));
	pg_unreachable();
}

// Leaves a page that PostgreSQL's own check refuses whether or not checksums are on.
void refuse_plain_page(const RelFileNodeBackend& rnode, uint8* page, ForkNumber fork, BlockNumber block)
{
	header_of(page)->pd_flags |= kSealedMarker;
	ereport(WARNING, (errcode(ERRCODE_DATA_CORRUPTED),
	                  errmsg("block %u of relation %s is not sealed, but the relation is: the page is refused", block,
	                         relpath(rnode, fork)),
	                  errhint("The file was altered outside the server, or a write was torn. Restore it from a backup.")));
}

} // namespace

bool page_looks_sealed(const uint8* page) noexcept
{
	const PageHeaderData* header = header_of(page);
	if (!flags_sealed(header->pd_flags))
		return false;
	const CipherId cipher = flags_mark(header->pd_flags).cipher;
	return (cipher == CipherId::aes_256_xts || cipher == CipherId::aes_128_xts || cipher == CipherId::throwaway) &&
	       header->pd_pagesize_version == (BLCKSZ | PG_PAGE_LAYOUT_VERSION) && header->pd_lower <= header->pd_upper &&
	       header->pd_upper <= header->pd_special && header->pd_special <= BLCKSZ;
}

bool page_seal(CachedKey& key, const uint8* plain, uint8* sealed, ForkNumber fork, BlockNumber block)
{
	if (page_is_zero(plain))
		return false;
	if (unlikely(key.kind == CachedKey::missing)) {
		if (!RecoveryInProgress())
			raise_missing_key(key.rnode, fork, block);
		key_cache_take_throwaway(&key);
	}

	const bool old_form = key.state == SlotState::transition && page_lsn(plain) < key.switch_lsn;
	const KeyForm& form = old_form ? key.old_form : key.form;
	PageCipher& cipher = old_form ? key.old_cipher : key.cipher;
	if (form.cipher == CipherId::none)
		return false;

	if (unlikely(!cipher.seal(plain, sealed, block, fork_class(fork), form.generation)))
		raise_cipher_failure(key.rnode, fork, block);
	PageHeader header = header_of(sealed);
	if (unlikely(key.kind == CachedKey::throwaway))
		header->pd_flags = flags_seal(header->pd_flags, {CipherId::throwaway, form.generation});
	if (DataChecksumsEnabled())
		header->pd_checksum = page_checksum(sealed, block);
	return true;
}

void page_open(CachedKey* key, const RelFileNodeBackend& rnode, uint8* page, ForkNumber fork, BlockNumber block)
{
	PageHeader header = header_of(page);

	if (!flags_sealed(header->pd_flags)) {
		const bool sealed_only =
			key->kind == CachedKey::sealed && key->state != SlotState::transition && key->form.cipher != CipherId::none;
		if (unlikely(sealed_only && !page_is_zero(page)))
			refuse_plain_page(rnode, page, fork, block);
		else if (unlikely(key->kind == CachedKey::missing && !InRecovery && !page_is_zero(page)))
			raise_missing_key(rnode, fork, block);
		return;
	}
	if (unlikely(!page_looks_sealed(page)))
		return; // a damaged page: its flags alone make the server's check refuse it

	const PageMark mark = flags_mark(header->pd_flags);
	if (unlikely(mark.cipher == CipherId::throwaway && key->kind == CachedKey::missing && RecoveryInProgress()) &&
	    vault_throwaway_exists({rnode.node.dbNode, rnode.node.spcNode, rnode.node.relNode}))
		key_cache_take_throwaway(key); // another process made it
	const auto is = [&](const KeyForm& form) { return form.cipher == mark.cipher && form.generation == mark.generation; };
	PageCipher* cipher = nullptr;
	if (key->kind == CachedKey::sealed && is(key->form))
		cipher = &key->cipher;
	else if (key->kind == CachedKey::sealed && key->state != SlotState::single && is(key->old_form))
		cipher = &key->old_cipher;
	else if (key->kind == CachedKey::throwaway && mark.cipher == CipherId::throwaway)
		cipher = &key->cipher;
	if (unlikely(!cipher)) {
		if (InRecovery)
			return; // redo: full-page images put the page right, or the server's own check stops it
		raise_missing_key(rnode, fork, block);
	}

	const bool intact = !DataChecksumsEnabled() || header->pd_checksum == page_checksum(page, block);
	if (unlikely(!cipher->open(page, block, fork_class(fork))))
		raise_cipher_failure(rnode, fork, block);
	if (DataChecksumsEnabled()) {
		// A wrong sealed checksum becomes a wrong plain one: the server reports and counts it, and ignore_checksum_failure works.
		const uint16 checksum = page_checksum(page, block);
		header->pd_checksum = intact ? checksum : static_cast<uint16>(checksum + 1);
	}
}

} // namespace seal::pg
