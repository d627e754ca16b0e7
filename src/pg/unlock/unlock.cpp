// Unlocking at server start: `pgseal unlock` opens the providers, unwraps the keyring keys and hands them over through a pipe.
//
// Runs in the postmaster while shared_preload_libraries is processed (or in a single-user server): no child exists, shared memory
// does not either. SIGCHLD is blocked in the postmaster at that time and delivered much later, when the helper has long been
// reaped here by its pid: the server's own reaper, which takes an unknown child's failure for a crashed backend, never sees it.
#include "pgseal_process.hpp"

#include "../agent_client/agent_client.hpp"
#include "../guard.hpp"
#include "../guc.hpp"
#include "../registry/registry_store.hpp"
#include "../vault/vault.hpp"
#include "../wal/wal_keys.hpp"
#include "../wal/wal_switch.hpp"
#include "../workers/agent_alone.hpp"

#include "seal/registry.hpp"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

namespace seal::pg {

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kFrameHeader = 12; // u32 length of what follows, u64 request id
constexpr std::size_t kMaxErrorText = 2000;

// What the ereport at the end needs: plain data, because FATAL unwinds no C++ frame.
struct Failure {
	int sqlstate;
	char message[1024], detail[kMaxErrorText + 1], hint[1024];
};

struct Pipe {
	int ends[2] = {-1, -1};
	Pipe() noexcept
	{
		if (pipe2(ends, O_CLOEXEC) == 0)
			fcntl(ends[0], F_SETFL, O_NONBLOCK);
	}
	Pipe(const Pipe&) = delete;
	~Pipe()
	{
		close_write();
		if (ends[0] >= 0)
			close(ends[0]);
	}
	bool ok() const noexcept { return ends[0] >= 0; }
	void close_write() noexcept
	{
		if (ends[1] >= 0)
			close(ends[1]);
		ends[1] = -1;
	}
};

// Ends the helper whatever happens.
struct Helper {
	pid_t pid;
	bool ended = false;
	int status = 0;
	bool check(int wait_ms) noexcept
	{
		if (!ended)
			ended = reap_pgseal(pid, wait_ms, &status);
		return ended;
	}
	~Helper()
	{
		if (!ended) {
			kill_pgseal(pid, SIGKILL);
			check(1000);
		}
	}
};

// The reply frame as it arrives. Secrets: wiped when done, and the room is had at once, so that none is left behind by growth.
struct Incoming {
	Bytes bytes;
	Incoming() { bytes.reserve(kFrameHeader + kMaxFrame); }
	~Incoming() { wipe_message(bytes); }
	std::size_t expected() const noexcept
	{
		if (bytes.size() < 4)
			return kFrameHeader;
		return std::size_t{4} + (bytes[0] | bytes[1] << 8 | bytes[2] << 16 | std::size_t{bytes[3]} << 24);
	}
	bool too_large() const noexcept { return expected() > kFrameHeader + kMaxFrame; }
	bool complete() const noexcept { return bytes.size() >= kFrameHeader && bytes.size() >= expected(); }
	ByteView payload() const noexcept { return ByteView(bytes).subspan(kFrameHeader, expected() - kFrameHeader); }
};

// Reads what is there. False: end of file.
bool drain(int fd, Bytes& into, std::size_t limit) noexcept
{
	std::uint8_t block[4096];
	bool open = true;
	for (;;) {
		const ssize_t n = read(fd, block, sizeof block);
		if (n > 0) {
			const std::size_t room = limit - std::min(limit, into.size());
			into.insert(into.end(), block, block + std::min(room, static_cast<std::size_t>(n)));
			continue;
		}
		if (n < 0 && errno == EINTR)
			continue;
		open = n < 0 && errno == EAGAIN;
		break;
	}
	wipe(block, sizeof block);
	return open;
}

bool shutdown_requested() noexcept // the postmaster's handlers are blocked for now
{
	sigset_t pending;
	return sigpending(&pending) == 0 && (sigismember(&pending, SIGTERM) == 1 || sigismember(&pending, SIGINT) == 1 ||
	                                     sigismember(&pending, SIGQUIT) == 1);
}

std::string provider_names(const Registry& registry)
{
	std::string names;
	for (const ProviderDef& provider : registry.providers())
		names += (names.empty() ? "\"" : ", \"") + provider.name + "\"";
	return names;
}

// Runs the helper and puts its keys into the vault. Throws SealError; `error_text` is what the helper wrote to its standard error.
int unlock(const Registry& registry, std::string& error_text)
{
	const std::string path = pgseal_path();
	const char* arguments[7] = {"pgseal", "unlock", "-D", ".", nullptr, nullptr, nullptr};
	if (guc_provider_overrides_file && guc_provider_overrides_file[0] != '\0') {
		arguments[4] = "--overrides";
		arguments[5] = guc_provider_overrides_file;
	}
	const auto deadline = Clock::now() + std::chrono::milliseconds(guc_unlock_timeout_ms);
	Pipe output, error;
	if (!output.ok() || !error.ok())
		raise({ErrorCode::io_error, std::string("could not create a pipe: ") + strerror(errno)});
	Helper helper{spawn_pgseal(path, arguments, {.input = -1, .output = output.ends[1], .error = error.ends[1]})};
	if (helper.pid < 0) {
		helper.ended = true;
		raise({ErrorCode::io_error, "could not execute \"" + path + "\": " + strerror(errno),
		       "Install the pgseal command beside the server, or set pg_seal.pgseal_path."});
	}
	output.close_write();
	error.close_write();

	Incoming incoming;
	Bytes text;
	const auto hear = [&] {
		const bool open = drain(error.ends[0], text, kMaxErrorText);
		error_text.assign(text.begin(), text.end());
		error_text.erase(error_text.find_last_not_of(" \t\r\n") + 1);
		return open;
	};
	int error_fd = error.ends[0]; // -1 once at its end: poll() passes over it
	for (bool open = true; open && !incoming.complete() && !incoming.too_large();) {
		if (Clock::now() >= deadline)
			raise({ErrorCode::timeout,
			       "no answer from provider " + provider_names(registry) + " within " +
			           std::to_string(guc_unlock_timeout_ms) + " ms",
			       "Check that the provider can be reached with \"pgseal doctor\", or raise pg_seal.unlock_timeout."});
		if (shutdown_requested())
			raise({ErrorCode::timeout, "the server was told to shut down"});
		const bool ended = helper.check(0); // before reading: what it wrote is then all there
		pollfd files[] = {{output.ends[0], POLLIN, 0}, {error_fd, POLLIN, 0}};
		poll(files, 2, ended ? 0 : 50);
		open = drain(output.ends[0], incoming.bytes, kFrameHeader + kMaxFrame) && !ended;
		if (!hear())
			error_fd = -1;
	}
	const int left =
		static_cast<int>(std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count());
	helper.check(std::clamp(left, 0, 2000)); // one that lingers after its answer is killed by ~Helper
	hear();

	if (!incoming.complete() || incoming.too_large())
		raise({ErrorCode::protocol,
		       "\"" + path + " unlock\" ended without an answer" +
		           (helper.ended ? " (" + describe_exit(helper.status) + ")" : std::string()),
		       "Run \"pgseal doctor\" as the server's user; it checks the command, the provider's module and its "
		       "token."});
	Result<UnlockReply> reply = UnlockReply::decode(incoming.payload());
	if (!reply)
		raise({ErrorCode::protocol, "the answer of \"" + path + "\" does not parse: " + reply.error().message,
		       "The pgseal command and the pg_seal library must be of the same version."});
	if (reply->error) {
		error_text.clear(); // says the same
		raise(std::move(*reply->error));
	}
	for (const UnlockedKey& key : reply->keys) {
		if (key.key.size() != kKeyringKeySize)
			raise({ErrorCode::protocol, "the answer of \"" + path + "\" holds a key of a wrong length"});
		if (!vault_put_keyring_key(key.keyring_id, key.version, key.key.reveal(RevealToken()).data()))
			raise({ErrorCode::unsupported, "more than " + std::to_string(kMaxKeyringKeys) + " keyring keys"});
	}
	return static_cast<int>(reply->keys.size());
}

// `postgres -C name` also loads the libraries, to print a setting that depends on them; it must not need the provider. The
// server's own variable for it is static, so the command line is asked.
bool only_prints_a_setting()
{
	bool found = false;
	if (FILE* file = fopen("/proc/self/cmdline", "re")) {
		std::string argument;
		for (int c; (c = getc(file)) != EOF;) {
			if (c != '\0') {
				argument.push_back(static_cast<char>(c));
				continue;
			}
			found = found || argument.starts_with("-C");
			argument.clear();
		}
		fclose(file);
	}
	return found;
}

void note(Failure& failure, const Error& error)
{
	failure.sqlstate = sqlstate_of(error.code);
	strlcpy(failure.message, error.message.c_str(), sizeof failure.message);
	strlcpy(failure.hint, error.hint.c_str(), sizeof failure.hint);
}

} // namespace

void unlock_at_start()
{
	if (IsUnderPostmaster || IsBootstrapProcessingMode())
		return;
	static Failure failure; // static: outlives every frame
	int keys = 0;
	bool wal_sealed = false;
	std::size_t keyrings = 0;
	const auto start = Clock::now();
	std::string error_text;
	try {
		if (only_prints_a_setting())
			return;
		const Registry registry = registry_read();
		keyrings = registry.keyrings().size();
		if (keyrings == 0)
			return;
		keys = unlock(registry, error_text);
		wal_keys_load(registry);
		wal_sealed = registry.wal_keys().active != 0;
		if (!IsPostmasterEnvironment)
			load_hsm_keys_alone();
	} catch (const SealError& e) {
		note(failure, e.error);
		strlcpy(failure.detail, error_text.c_str(), sizeof failure.detail);
	} catch (const std::exception& e) {
		note(failure, {ErrorCode::io_error, e.what()});
	}
	std::string().swap(error_text);

	if (failure.message[0] != '\0')
		ereport(FATAL, (errcode(failure.sqlstate), errmsg("could not unlock the keyrings: %s", failure.message),
		                failure.detail[0] != '\0' ? errdetail("The unlock command wrote: %s", failure.detail) : 0,
		                failure.hint[0] != '\0' ? errhint("%s", failure.hint) : 0));
	const auto took = std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - start).count();
	if (wal_sealed)
		wal_drop_plain_leftovers(true);
	ereport(LOG, (errmsg("pg_seal unlocked %d keys of %zu keyrings in %lld ms", keys, keyrings,
	                     static_cast<long long>(took))));
}

} // namespace seal::pg
