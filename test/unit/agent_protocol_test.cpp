#include "seal/agent_protocol.hpp"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <csignal>
#include <random>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>

namespace seal {
namespace {

Secret secret_of(std::initializer_list<std::uint8_t> bytes) { return Secret::copy_of(Bytes(bytes)); }
Bytes revealed(const Secret& s)
{
	const ByteView v = s.reveal(RevealToken{});
	return {v.begin(), v.end()};
}

AgentRequest sample_request()
{
	AgentRequest q;
	q.op = AgentOp::unwrap;
	q.provider_name = "hsm";
	q.provider_kind = "pkcs11";
	q.provider_config = "{\"token\":\"seal\"}";
	q.timeout_ms = 1500;
	q.label = "kek";
	q.kek = {"kek", "0a0b", WrapMechanism::pkcs11_aes_kw};
	q.aad = {1, 2, 3};
	q.secrets.push_back(secret_of({4, 5}));
	q.secrets.push_back(secret_of({6}));
	q.blobs.push_back({WrapMechanism::pkcs11_aes_gcm, {7, 8}, {9, 10, 11}});
	return q;
}

AgentReply sample_reply()
{
	AgentReply a;
	a.error = Error{ErrorCode::pin_incorrect, "the token rejected the PIN", "Put it right."};
	a.endpoints.push_back({"token 'seal'", true, 2.5, std::int64_t{-7}, "fine"});
	a.endpoints.push_back({"token 'other'", false, 0, std::nullopt, "absent"});
	a.kek = {"kek", "0a0b", WrapMechanism::pkcs11_cbc_hmac};
	a.blobs.push_back({WrapMechanism::pkcs11_aes_kw, {}, {1, 2}});
	a.secrets.push_back(secret_of({3, 4, 5}));
	return a;
}

UnlockReply sample_unlock()
{
	UnlockReply u;
	UnlockedKey k;
	k.keyring_id = 3;
	k.version = 4;
	k.key = Secret(kKeyringKeySize);
	u.keys.push_back(std::move(k));
	return u;
}

TEST(AgentProtocol, RequestRoundTrip)
{
	const auto back = AgentRequest::decode(sample_request().encode());
	ASSERT_TRUE(back.ok());
	EXPECT_EQ(back->op, AgentOp::unwrap);
	EXPECT_EQ(back->provider_name, "hsm");
	EXPECT_EQ(back->provider_kind, "pkcs11");
	EXPECT_EQ(back->provider_config, "{\"token\":\"seal\"}");
	EXPECT_EQ(back->timeout_ms, 1500u);
	EXPECT_EQ(back->label, "kek");
	EXPECT_EQ(back->kek.id_hex, "0a0b");
	EXPECT_EQ(back->kek.mechanism, WrapMechanism::pkcs11_aes_kw);
	EXPECT_EQ(back->aad, (Bytes{1, 2, 3}));
	ASSERT_EQ(back->secrets.size(), 2u);
	EXPECT_EQ(revealed(back->secrets[0]), (Bytes{4, 5}));
	ASSERT_EQ(back->blobs.size(), 1u);
	EXPECT_EQ(back->blobs[0].iv, (Bytes{7, 8}));
	EXPECT_EQ(back->blobs[0].data, (Bytes{9, 10, 11}));
}

TEST(AgentProtocol, ReplyRoundTrip)
{
	const auto back = AgentReply::decode(sample_reply().encode());
	ASSERT_TRUE(back.ok());
	ASSERT_TRUE(back->error.has_value());
	EXPECT_EQ(back->error->code, ErrorCode::pin_incorrect);
	EXPECT_EQ(back->error->message, "the token rejected the PIN");
	EXPECT_EQ(back->error->hint, "Put it right.");
	ASSERT_EQ(back->endpoints.size(), 2u);
	EXPECT_TRUE(back->endpoints[0].ok);
	EXPECT_EQ(back->endpoints[0].latency_ms, 2.5);
	EXPECT_EQ(back->endpoints[0].certificate_expires, -7);
	EXPECT_FALSE(back->endpoints[1].certificate_expires.has_value());
	EXPECT_EQ(back->endpoints[1].detail, "absent");
	EXPECT_EQ(back->kek.mechanism, WrapMechanism::pkcs11_cbc_hmac);
	ASSERT_EQ(back->blobs.size(), 1u);
	EXPECT_EQ(revealed(back->secrets.at(0)), (Bytes{3, 4, 5}));
	const auto empty = AgentReply::decode(AgentReply{}.encode());
	ASSERT_TRUE(empty.ok());
	EXPECT_FALSE(empty->error.has_value());
}

TEST(AgentProtocol, UnlockReplyRoundTrip)
{
	const auto back = UnlockReply::decode(sample_unlock().encode());
	ASSERT_TRUE(back.ok());
	EXPECT_FALSE(back->error.has_value());
	ASSERT_EQ(back->keys.size(), 1u);
	EXPECT_EQ(back->keys[0].keyring_id, 3u);
	EXPECT_EQ(back->keys[0].version, 4u);
	EXPECT_EQ(back->keys[0].key.size(), kKeyringKeySize);
}

template <class Message> void expect_every_truncation_refused(const Message& message)
{
	const Bytes good = message.encode();
	for (std::size_t n = 0; n < good.size(); n++) {
		const Bytes shorter(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(n));
		const auto back = Message::decode(shorter);
		ASSERT_FALSE(back.ok()) << n;
		ASSERT_EQ(back.error().code, ErrorCode::protocol);
	}
	Bytes longer = good;
	longer.push_back(0);
	EXPECT_FALSE(Message::decode(longer).ok());
}

template <class Message> void expect_no_harm_from_noise(const Message& message)
{
	std::mt19937 random(7);
	const Bytes good = message.encode();
	for (int round = 0; round < 5000; round++) {
		Bytes bad = good;
		for (unsigned i = 0; i <= random() % 4; i++)
			bad[random() % bad.size()] = static_cast<std::uint8_t>(random());
		bad.resize(bad.size() - random() % 3);
		(void) Message::decode(bad).ok();
	}
}

TEST(AgentProtocol, EveryTruncationIsRefused)
{
	expect_every_truncation_refused(sample_request());
	expect_every_truncation_refused(sample_reply());
	expect_every_truncation_refused(sample_unlock());
}

TEST(AgentProtocol, NoiseDoesNoHarm)
{
	expect_no_harm_from_noise(sample_request());
	expect_no_harm_from_noise(sample_reply());
	expect_no_harm_from_noise(sample_unlock());
}

TEST(AgentProtocol, ValuesOutOfRangeAreRefused)
{
	AgentRequest q = sample_request();
	q.op = static_cast<AgentOp>(0);
	EXPECT_FALSE(AgentRequest::decode(q.encode()).ok());
	q.op = static_cast<AgentOp>(7);
	EXPECT_FALSE(AgentRequest::decode(q.encode()).ok());
	q = sample_request();
	q.kek.mechanism = static_cast<WrapMechanism>(99);
	EXPECT_FALSE(AgentRequest::decode(q.encode()).ok());
	AgentReply a = sample_reply();
	a.error->code = static_cast<ErrorCode>(0);
	EXPECT_FALSE(AgentReply::decode(a.encode()).ok());
	UnlockReply u = sample_unlock();
	u.keys[0].key = Secret(kKeyringKeySize - 1);
	EXPECT_FALSE(UnlockReply::decode(u.encode()).ok());
}

// --- frames ---

Deadline in_ms(int ms) { return std::chrono::steady_clock::now() + std::chrono::milliseconds(ms); }

struct Pair {
	int a = -1, b = -1;
	explicit Pair(bool pipes = false)
	{
		int fd[2];
		EXPECT_EQ(pipes ? pipe(fd) : socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
		a = fd[0]; // of a pipe: the reading end
		b = fd[1];
	}
	Pair(const Pair&) = delete;
	~Pair()
	{
		close_a();
		close_b();
	}
	void close_a()
	{
		if (a >= 0)
			close(a);
		a = -1;
	}
	void close_b()
	{
		if (b >= 0)
			close(b);
		b = -1;
	}
};

class Frames : public testing::TestWithParam<bool> {};

TEST_P(Frames, CarryMessagesOfEverySizeInOrder)
{
	Pair p(GetParam());
	const std::size_t sizes[] = {0, 1, 11, 4096, 70000, kMaxFrame - 8};
	std::thread writer([&] {
		std::uint64_t id = 0xFFFFFFFF00000000;
		for (const std::size_t size : sizes)
			EXPECT_TRUE(write_frame(p.b, id++, Bytes(size, static_cast<std::uint8_t>(size)), in_ms(10000)).ok());
	});
	std::uint64_t id = 0xFFFFFFFF00000000;
	for (const std::size_t size : sizes) {
		const auto frame = read_frame(p.a, in_ms(10000));
		ASSERT_TRUE(frame.ok()) << frame.error().message;
		EXPECT_EQ(frame->first, id++);
		EXPECT_EQ(frame->second, Bytes(size, static_cast<std::uint8_t>(size)));
	}
	writer.join();
}

TEST_P(Frames, ReaderThatNobodyFeedsTimesOut)
{
	Pair p(GetParam());
	const auto frame = read_frame(p.a, in_ms(30));
	ASSERT_FALSE(frame.ok());
	EXPECT_EQ(frame.error().code, ErrorCode::timeout);
}

TEST_P(Frames, WriterThatNobodyReadsTimesOut)
{
	Pair p(GetParam());
	const auto written = write_frame(p.b, 1, Bytes(kMaxFrame - 8), in_ms(100));
	ASSERT_FALSE(written.ok());
	EXPECT_EQ(written.error().code, ErrorCode::timeout);
}

TEST_P(Frames, ClosedChannelIsAnError)
{
	Pair p(GetParam());
	p.close_b();
	const auto frame = read_frame(p.a, in_ms(1000));
	ASSERT_FALSE(frame.ok());
	EXPECT_EQ(frame.error().code, ErrorCode::io_error);
}

TEST_P(Frames, ChannelClosedInsideAFrameIsAnError)
{
	Pair p(GetParam());
	const std::uint8_t beginning[] = {100, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 42};
	ASSERT_EQ(write(p.b, beginning, sizeof beginning), static_cast<ssize_t>(sizeof beginning));
	p.close_b();
	const auto frame = read_frame(p.a, in_ms(1000));
	ASSERT_FALSE(frame.ok());
	EXPECT_EQ(frame.error().code, ErrorCode::io_error);
}

TEST_P(Frames, WritingToAClosedChannelIsAnErrorAndNoSignal)
{
	Pair p(GetParam());
	const auto before = signal(SIGPIPE, GetParam() ? SIG_IGN : SIG_DFL); // a socket needs no such care
	p.close_a();
	const auto written = write_frame(p.b, 1, Bytes(10), in_ms(1000));
	signal(SIGPIPE, before);
	ASSERT_FALSE(written.ok());
	EXPECT_EQ(written.error().code, ErrorCode::io_error);
}

TEST_P(Frames, ImpossibleLengthsAreRefused)
{
	for (const std::uint32_t length : {0u, 7u, kMaxFrame + 1, 0xFFFFFFFFu}) {
		Pair p(GetParam());
		Writer w;
		w.u32(length);
		w.u64(1);
		ASSERT_EQ(write(p.b, w.message().data(), 12), 12);
		const auto frame = read_frame(p.a, in_ms(1000));
		ASSERT_FALSE(frame.ok());
		EXPECT_EQ(frame.error().code, ErrorCode::protocol);
	}
	Pair p(GetParam());
	EXPECT_EQ(write_frame(p.b, 1, Bytes(kMaxFrame - 7), in_ms(1000)).error().code, ErrorCode::protocol);
}

INSTANTIATE_TEST_SUITE_P(Channels, Frames, testing::Bool(),
                         [](const auto& info) { return info.param ? "Pipe" : "Socket"; });

// --- overrides ---

TEST(Overrides, ReplaceAddAndRemoveMembersOfTheNamedProviderOnly)
{
	const std::string config = R"({"module":"/a.so","token":"seal","pin_file":"/pin"})";
	const std::string overrides =
		R"({"hsm":{"module":"/b.so","pin_file":null,"environment":{"A":"b"}},"other":{"token":"x"}})";
	const auto merged = merge_overrides("hsm", config, overrides);
	ASSERT_TRUE(merged.ok());
	EXPECT_EQ(nlohmann::json::parse(*merged),
	          nlohmann::json::parse(R"({"module":"/b.so","token":"seal","environment":{"A":"b"}})"));
	EXPECT_EQ(*merge_overrides("third", config, overrides), config);
	EXPECT_EQ(*merge_overrides("hsm", config, ""), config);
	EXPECT_EQ(*merge_overrides("hsm", config, " \n"), config);
}

TEST(Overrides, MalformedTextIsRefusedAndNotQuoted)
{
	for (const char* bad : {"{", "[]", "5", R"({"hsm":5})", "{\"hsm\":{\"a\":\"secret\"}"}) {
		const auto merged = merge_overrides("hsm", "{}", bad);
		ASSERT_FALSE(merged.ok()) << bad;
		EXPECT_EQ(merged.error().code, ErrorCode::invalid_argument);
		EXPECT_EQ(merged.error().message.find("secret"), std::string::npos);
	}
	EXPECT_FALSE(merge_overrides("hsm", "[1]", R"({"hsm":{"a":1}})").ok());
}

} // namespace
} // namespace seal
