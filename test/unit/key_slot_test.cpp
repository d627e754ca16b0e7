#include "sample_page.hpp"

#include "seal/crypto.hpp"
#include "seal/key_slot.hpp"

#include <gtest/gtest.h>

#include <set>

namespace seal {
namespace {

using test::sample_seed;
using test::Seed;

const Seed kKeyringKey = sample_seed(40);
const Seed kDekSeed = sample_seed(50);

KeySlot sample_slot()
{
	KeySlot slot{};
	slot.tablespace = 16385;
	slot.rel_node = 16390;
	slot.version = 0x0102030405060708;
	slot.created_at = 1700000000;
	slot.keyring_id = 3;
	slot.keyring_version = 2;
	slot.mac_key_version = 2;
	slot.format = kSlotFormat;
	slot.state = SlotState::single;
	slot.form = {CipherId::aes_256_xts, 200};
	EXPECT_TRUE(slot_wrap_seed(slot, kKeyringKey.data(), kDekSeed.data()));
	EXPECT_TRUE(slot_set_mac(slot, kKeyringKey.data()));
	return slot;
}

std::uint8_t* bytes_of(KeySlot& slot) { return reinterpret_cast<std::uint8_t*>(&slot); }

TEST(KeySlot, WrappedSeedComesBack)
{
	const KeySlot slot = sample_slot();
	EXPECT_EQ(slot.mechanism, WrapMechanism::local_aes_gcm);
	EXPECT_EQ(slot.wrapped_size, 60);
	EXPECT_TRUE(slot_mac_ok(slot, kKeyringKey.data()));
	Seed seed{};
	ASSERT_TRUE(slot_unwrap_seed(slot, false, kKeyringKey.data(), seed.data()));
	EXPECT_EQ(seed, kDekSeed);
	std::uint8_t check[kKeyCheckSize];
	ASSERT_TRUE(dek_key_check(kDekSeed.data(), check));
	EXPECT_TRUE(std::equal(check, check + kKeyCheckSize, slot.key_check));
	EXPECT_FALSE(std::equal(check, check + kKeyCheckSize, kDekSeed.data()));
}

TEST(KeySlot, EachWrapDrawsItsOwnNonce)
{
	std::set<std::string> nonces;
	for (int i = 0; i < 100; i++) {
		const KeySlot slot = sample_slot();
		nonces.insert(to_hex({slot.wrapped, kAeadNonceSize}));
	}
	EXPECT_EQ(nonces.size(), 100u);
}

TEST(KeySlot, LayoutOnDisk) // docs/formats.md; a change here is a change of the format
{
	EXPECT_EQ(offsetof(KeySlot, tablespace), 0u);
	EXPECT_EQ(offsetof(KeySlot, rel_node), 4u);
	EXPECT_EQ(offsetof(KeySlot, version), 8u);
	EXPECT_EQ(offsetof(KeySlot, switch_lsn), 16u);
	EXPECT_EQ(offsetof(KeySlot, created_at), 24u);
	EXPECT_EQ(offsetof(KeySlot, keyring_id), 28u);
	EXPECT_EQ(offsetof(KeySlot, keyring_version), 32u);
	EXPECT_EQ(offsetof(KeySlot, format), 36u);
	EXPECT_EQ(offsetof(KeySlot, state), 37u);
	EXPECT_EQ(offsetof(KeySlot, mechanism), 38u);
	EXPECT_EQ(offsetof(KeySlot, flags), 39u);
	EXPECT_EQ(offsetof(KeySlot, form), 40u);
	EXPECT_EQ(offsetof(KeySlot, old_form), 42u);
	EXPECT_EQ(offsetof(KeySlot, wrapped_size), 44u);
	EXPECT_EQ(offsetof(KeySlot, old_wrapped_size), 45u);
	EXPECT_EQ(offsetof(KeySlot, mac_key_version), 46u);
	EXPECT_EQ(offsetof(KeySlot, wrapped), 48u);
	EXPECT_EQ(offsetof(KeySlot, old_wrapped), 128u);
	EXPECT_EQ(offsetof(KeySlot, key_check), 208u);
	EXPECT_EQ(offsetof(KeySlot, old_key_check), 216u);
	EXPECT_EQ(offsetof(KeySlot, mac), 224u);
	EXPECT_EQ(offsetof(KeySlot, dropped_at), 236u);
	EXPECT_EQ(offsetof(KeySlot, record_lsn), 240u);
	EXPECT_EQ(offsetof(KeySlot, dropped_lsn), 248u);
}

TEST(KeySlot, EveryAuthenticatedBitCounts)
{
	KeySlot slot = sample_slot();
	for (std::size_t at = 0; at < offsetof(KeySlot, dropped_at); at++)
		for (int bit = 0; bit < 8; bit++) {
			bytes_of(slot)[at] ^= static_cast<std::uint8_t>(1 << bit);
			ASSERT_FALSE(slot_mac_ok(slot, kKeyringKey.data())) << at << "." << bit;
			bytes_of(slot)[at] ^= static_cast<std::uint8_t>(1 << bit);
		}
	EXPECT_TRUE(slot_mac_ok(slot, kKeyringKey.data()));
}

TEST(KeySlot, NodeLocalFieldsDoNotCount)
{
	KeySlot slot = sample_slot();
	slot.dropped_at = 1;
	slot.record_lsn = 2;
	slot.dropped_lsn = 3;
	EXPECT_TRUE(slot_mac_ok(slot, kKeyringKey.data()));
}

TEST(KeySlot, EveryBitOfTheWrappedSeedAndItsIdentityCounts)
{
	KeySlot slot = sample_slot();
	const auto refused = [&](std::uint8_t* at, int bit) {
		*at ^= static_cast<std::uint8_t>(1 << bit);
		Seed seed = sample_seed(99);
		const bool opened = slot_unwrap_seed(slot, false, kKeyringKey.data(), seed.data());
		*at ^= static_cast<std::uint8_t>(1 << bit);
		return !opened;
	};
	const auto every_bit = [&](std::size_t from, std::size_t size) {
		for (std::size_t i = from; i < from + size; i++)
			for (int bit = 0; bit < 8; bit++)
				ASSERT_TRUE(refused(bytes_of(slot) + i, bit)) << i << "." << bit;
	};
	every_bit(offsetof(KeySlot, tablespace), 8); // tablespace, rel_node
	every_bit(offsetof(KeySlot, keyring_id), 8); // keyring_id, keyring_version
	every_bit(offsetof(KeySlot, mechanism), 1);
	every_bit(offsetof(KeySlot, form), 2);
	every_bit(offsetof(KeySlot, wrapped_size), 1);
	every_bit(offsetof(KeySlot, wrapped), slot.wrapped_size);
	every_bit(offsetof(KeySlot, key_check), kKeyCheckSize);
}

TEST(KeySlot, AnotherKeyringKeyOpensNothing)
{
	const KeySlot slot = sample_slot();
	Seed other = kKeyringKey;
	other[0] ^= 1;
	Seed seed = sample_seed(99);
	EXPECT_FALSE(slot_mac_ok(slot, other.data()));
	EXPECT_FALSE(slot_unwrap_seed(slot, false, other.data(), seed.data()));
	EXPECT_EQ(seed, Seed{}) << "a refused seed must not be handed out";
}

TEST(KeySlot, ASeedBecomesTheOldOneWithItsWrappedBytes)
{
	KeySlot slot = sample_slot();
	const Seed next = sample_seed(60);
	slot.old_form = slot.form;
	slot.old_wrapped_size = slot.wrapped_size;
	std::copy_n(slot.wrapped, sizeof slot.wrapped, slot.old_wrapped);
	std::copy_n(slot.key_check, sizeof slot.key_check, slot.old_key_check);
	slot.form.generation++;
	slot.state = SlotState::transition;
	slot.version++;
	ASSERT_TRUE(slot_wrap_seed(slot, kKeyringKey.data(), next.data()));
	ASSERT_TRUE(slot_set_mac(slot, kKeyringKey.data()));
	Seed seed{};
	ASSERT_TRUE(slot_unwrap_seed(slot, true, kKeyringKey.data(), seed.data()));
	EXPECT_EQ(seed, kDekSeed);
	ASSERT_TRUE(slot_unwrap_seed(slot, false, kKeyringKey.data(), seed.data()));
	EXPECT_EQ(seed, next);
	std::swap_ranges(slot.wrapped, slot.wrapped + kWrappedSeedMax, slot.old_wrapped);
	EXPECT_FALSE(slot_unwrap_seed(slot, false, kKeyringKey.data(), seed.data())) << "forms are bound";
}

TEST(KeySlot, RefusesSizesAndMechanismsThatAreNotItsOwn)
{
	KeySlot slot = sample_slot();
	Seed seed;
	slot.wrapped_size = 255;
	EXPECT_FALSE(slot_unwrap_seed(slot, false, kKeyringKey.data(), seed.data()));
	EXPECT_FALSE(slot_unwrap_seed(slot, true, kKeyringKey.data(), seed.data())) << "there is no old seed";
	slot = sample_slot();
	slot.mechanism = WrapMechanism::pkcs11_aes_gcm;
	EXPECT_FALSE(slot_unwrap_seed(slot, false, kKeyringKey.data(), seed.data()));
}

TEST(KeySlot, NewSeedsDiffer)
{
	Seed a{}, b{};
	ASSERT_TRUE(new_dek_seed(a.data()));
	ASSERT_TRUE(new_dek_seed(b.data()));
	EXPECT_NE(a, b);
}

// --- pages of the key file ---

TEST(KeyPage, LooksLikeAFullPageToPostgreSQL)
{
	test::Page page;
	page.fill(0xEE);
	std::uint8_t id[16];
	ASSERT_TRUE(random_bytes(id));
	key_page_init(page.data(), id);
	EXPECT_TRUE(key_page_valid(page.data()));
	EXPECT_EQ(test::get_u16(page.data(), kPageFlagsOffset), 0);
	EXPECT_EQ(test::get_u16(page.data(), 12), kPageSize); // pd_lower <= pd_upper <= pd_special <= page size
	EXPECT_EQ(test::get_u16(page.data(), kPageUpperOffset), kPageSize);
	EXPECT_EQ(test::get_u16(page.data(), 16), kPageSize);
	EXPECT_EQ(test::get_u16(page.data(), 18), kPageSize + 4);
	EXPECT_TRUE(std::equal(id, id + 16, &page[24 + 16]));
	for (std::size_t i = 56; i < kPageSize; i++)
		ASSERT_EQ(page[i], 0) << i;
}

TEST(KeyPage, DamagedHeaderIsNoticed)
{
	test::Page page;
	const std::uint8_t id[16] = {1};
	key_page_init(page.data(), id);
	for (const std::size_t at : {10, 12, 14, 16, 18, 24, 31, 32, 35}) {
		page[at] ^= 0x40;
		EXPECT_FALSE(key_page_valid(page.data())) << at;
		page[at] ^= 0x40;
	}
	EXPECT_TRUE(key_page_valid(page.data()));
	page.fill(0);
	EXPECT_FALSE(key_page_valid(page.data()));
}

TEST(KeyPage, SlotsAreAlignedAndNeverCrossASector)
{
	alignas(8) test::Page page;
	const std::uint8_t id[16] = {};
	key_page_init(page.data(), id);
	for (std::size_t i = 0; i < kSlotsPerPage; i++) {
		const auto at =
			static_cast<std::size_t>(reinterpret_cast<std::uint8_t*>(key_page_slot(page.data(), i)) - page.data());
		EXPECT_EQ(at % kSlotSize, 0u);
		EXPECT_GE(at, 256u);
		EXPECT_EQ(at / 512, (at + kSlotSize - 1) / 512);
		EXPECT_LE(at + kSlotSize, kPageSize);
		EXPECT_EQ(key_page_slot(page.data(), i)->state, SlotState::free);
	}
}

} // namespace
} // namespace seal
