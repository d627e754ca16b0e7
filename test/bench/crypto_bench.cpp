// Speed of the core's page and key path. Absolute numbers belong to the machine; what counts is the table of ratios at
// the end, measured in turns (a few calls of each, over and over), so that clock changes and neighbours touch all
// alike.
#include "seal/crypto.hpp"
#include "seal/key_slot.hpp"
#include "seal/page_cipher.hpp"

#include <benchmark/benchmark.h>
#include <openssl/evp.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

namespace {

using namespace seal;

alignas(4096) std::uint8_t g_plain[kPageSize];
alignas(4096) std::uint8_t g_sealed[kPageSize];
std::uint8_t g_seed[kDekSeedSize] = {1, 2, 3};

void require(bool ok)
{
	if (!ok)
		std::abort();
}

// The yardstick: one EVP call over 8 KiB with a ready context.
class BareEvp {
public:
	explicit BareEvp(const char* name)
	{
		std::uint8_t key[64], tweak[16] = {};
		for (std::size_t i = 0; i < sizeof key; i++)
			key[i] = static_cast<std::uint8_t>(7 * i + 1);
		EVP_CIPHER* const cipher = EVP_CIPHER_fetch(nullptr, name, nullptr);
		ctx_ = EVP_CIPHER_CTX_new();
		require(EVP_EncryptInit_ex2(ctx_, cipher, key, tweak, nullptr) == 1);
		EVP_CIPHER_free(cipher);
	}
	BareEvp(const BareEvp&) = delete;
	~BareEvp() { EVP_CIPHER_CTX_free(ctx_); }
	void set_tweak(const std::uint8_t* tweak)
	{
		require(EVP_EncryptInit_ex2(ctx_, nullptr, nullptr, tweak, nullptr) == 1);
	}
	void encrypt(std::size_t at, std::size_t size)
	{
		int n = 0;
		require(EVP_EncryptUpdate(ctx_, g_sealed + at, &n, g_plain + at, static_cast<int>(size)) == 1);
	}

private:
	EVP_CIPHER_CTX* ctx_;
};

struct Pages {
	BareEvp evp_256{"AES-256-XTS"}, evp_128{"AES-128-XTS"};
	PageCipher cipher_256, cipher_128;
	std::uint32_t block = 0;

	Pages()
	{
		require(cipher_256.init(CipherId::aes_256_xts, g_seed) && cipher_128.init(CipherId::aes_128_xts, g_seed));
	}
	void bare(BareEvp& evp) { evp.encrypt(0, kPageSize); }
	void bare_with_tweak(BareEvp& evp)
	{
		const std::uint8_t tweak[16] = {static_cast<std::uint8_t>(block++)};
		evp.set_tweak(tweak);
		evp.encrypt(0, kPageSize);
	}
	// What PageCipher::seal would cost if both units went through EVP.
	void seal_through_evp(BareEvp& evp)
	{
		std::uint8_t tweak[16] = {static_cast<std::uint8_t>(block++)};
		std::memcpy(g_sealed, g_plain, kPageHeaderSize);
		evp.set_tweak(tweak);
		evp.encrypt(kHeadOffset, kHeadSize);
		tweak[5] = 1;
		evp.set_tweak(tweak);
		evp.encrypt(kBodyOffset, kBodySize);
	}
	void seal(PageCipher& c) { require(c.seal(g_plain, g_sealed, block++, ForkClass::main, 1)); }
	void open(PageCipher& c) { require(c.open(g_sealed, block++, ForkClass::main)); }
	void checksum() { benchmark::DoNotOptimize(page_checksum(g_sealed, block++)); }
};

template <class F> void page_loop(benchmark::State& state, F call)
{
	Pages pages;
	for (auto _ : state) {
		call(pages);
		benchmark::ClobberMemory();
	}
	state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations() * kPageSize));
}

KeySlot sample_slot(const std::uint8_t* keyring_key)
{
	KeySlot slot{};
	slot.rel_node = 16384;
	slot.format = kSlotFormat;
	slot.state = SlotState::single;
	slot.form = {CipherId::aes_256_xts, 1};
	require(slot_wrap_seed(slot, keyring_key, g_seed) && slot_set_mac(slot, keyring_key));
	return slot;
}

void slot_unwrap(benchmark::State& state)
{
	const std::uint8_t keyring_key[kKeyringKeySize] = {9};
	const KeySlot slot = sample_slot(keyring_key);
	std::uint8_t seed[kDekSeedSize];
	for (auto _ : state)
		require(slot_unwrap_seed(slot, false, keyring_key, seed));
}

void slot_verify_mac(benchmark::State& state)
{
	const std::uint8_t keyring_key[kKeyringKeySize] = {9};
	const KeySlot slot = sample_slot(keyring_key);
	for (auto _ : state)
		require(slot_mac_ok(slot, keyring_key));
}

void slot_new(benchmark::State& state) // seed, wrap, MAC: what creating a relation costs in cryptography
{
	const std::uint8_t keyring_key[kKeyringKeySize] = {9};
	KeySlot slot = sample_slot(keyring_key);
	std::uint8_t seed[kDekSeedSize];
	for (auto _ : state)
		require(new_dek_seed(seed) && slot_wrap_seed(slot, keyring_key, seed) && slot_set_mac(slot, keyring_key));
}

void page_cipher_init(benchmark::State& state) // a key-cache miss, after the unwrap
{
	PageCipher c;
	for (auto _ : state)
		require(c.init(CipherId::aes_256_xts, g_seed));
}

void hkdf_expand_64(benchmark::State& state)
{
	std::uint8_t out[64];
	for (auto _ : state)
		require(hkdf_expand(g_seed, as_bytes("pg_seal page key v1"), out));
}

void page_zero_test(benchmark::State& state) // the worst case: a page that is all zero
{
	static const std::uint8_t zero[kPageSize] = {};
	for (auto _ : state)
		benchmark::DoNotOptimize(page_is_zero(zero));
}

void register_benchmarks()
{
	const auto page = [](const char* name, auto call) {
		benchmark::RegisterBenchmark(name, [call](benchmark::State& state) { page_loop(state, call); });
	};
	page("evp_aes_256_xts_8k", [](Pages& p) { p.bare(p.evp_256); });
	page("evp_aes_256_xts_8k_set_tweak", [](Pages& p) { p.bare_with_tweak(p.evp_256); });
	page("evp_aes_128_xts_8k", [](Pages& p) { p.bare(p.evp_128); });
	page("page_seal_aes_256", [](Pages& p) { p.seal(p.cipher_256); });
	page("page_open_aes_256", [](Pages& p) { p.open(p.cipher_256); });
	page("page_seal_aes_128", [](Pages& p) { p.seal(p.cipher_128); });
	page("page_open_aes_128", [](Pages& p) { p.open(p.cipher_128); });
	page("page_seal_aes_256_through_evp", [](Pages& p) { p.seal_through_evp(p.evp_256); });
	page("page_checksum", [](Pages& p) { p.checksum(); });
	benchmark::RegisterBenchmark("page_zero_test", page_zero_test);
	benchmark::RegisterBenchmark("page_cipher_init", page_cipher_init);
	benchmark::RegisterBenchmark("slot_unwrap", slot_unwrap);
	benchmark::RegisterBenchmark("slot_verify_mac", slot_verify_mac);
	benchmark::RegisterBenchmark("slot_new", slot_new);
	benchmark::RegisterBenchmark("hkdf_expand_64", hkdf_expand_64);
}

// --- ratios ---

struct Contender {
	const char* name;
	void (*call)(Pages&);
	std::vector<double> ns{};
};

double median(std::vector<double> v)
{
	std::nth_element(v.begin(), v.begin() + static_cast<std::ptrdiff_t>(v.size() / 2), v.end());
	return v[v.size() / 2];
}

void print_ratios()
{
	constexpr int kRounds = 2000, kCalls = 50;
	Pages pages;
	Contender contenders[] = {
		{"one EVP call, 8 KiB, AES-256-XTS (bare)", [](Pages& p) { p.bare(p.evp_256); }},
		{"the same, setting its tweak", [](Pages& p) { p.bare_with_tweak(p.evp_256); }},
		{"seal a page (copy, head, body)", [](Pages& p) { p.seal(p.cipher_256); }},
		{"open a page", [](Pages& p) { p.open(p.cipher_256); }},
		{"seal a page, both units through EVP", [](Pages& p) { p.seal_through_evp(p.evp_256); }},
		{"page checksum", [](Pages& p) { p.checksum(); }},
		{"one EVP call, 8 KiB, AES-128-XTS", [](Pages& p) { p.bare(p.evp_128); }},
		{"seal a page, AES-128-XTS", [](Pages& p) { p.seal(p.cipher_128); }},
	};
	for (int round = 0; round < kRounds; round++)
		for (Contender& c : contenders) {
			const auto from = std::chrono::steady_clock::now();
			for (int i = 0; i < kCalls; i++) {
				c.call(pages);
				benchmark::ClobberMemory();
			}
			const std::chrono::duration<double, std::nano> took = std::chrono::steady_clock::now() - from;
			c.ns.push_back(took.count() / kCalls);
		}
	const double bare = median(contenders[0].ns);
	std::printf("\n%-42s %9s %8s   (medians, measured in turns)\n", "", "ns", "of bare");
	for (const Contender& c : contenders)
		std::printf("%-42s %9.0f %7.3fx\n", c.name, median(c.ns), median(c.ns) / bare);
	std::printf("\nseal/bare ratio %.3f (wanted: at most 1.20), open/bare ratio %.3f\n",
	            median(contenders[2].ns) / bare, median(contenders[3].ns) / bare);
}

} // namespace

int main(int argc, char** argv)
{
	for (std::size_t i = 0; i < kPageSize; i++)
		g_plain[i] = static_cast<std::uint8_t>(i * 31);
	register_benchmarks();
	benchmark::Initialize(&argc, argv);
	if (benchmark::ReportUnrecognizedArguments(argc, argv))
		return 1;
	benchmark::RunSpecifiedBenchmarks();
	benchmark::Shutdown();
	print_ratios();
	return 0;
}
