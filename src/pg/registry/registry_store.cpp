// The registry's file and its WAL records. docs/architecture.md, "Registry", argues each crash point.
#include "registry_store.hpp"

#include "../agent_client/agent_client.hpp"
#include "../guard.hpp"
#include "../shmem.hpp"
#include "../wal/wal_keys.hpp"
#include "../xlog.hpp"
#include "registry_tables.hpp"

#include "seal/registry.hpp"

extern "C" {
#include "access/xlog.h"
#include "access/xloginsert.h"
#include "common/file_perm.h"
#include "storage/fd.h"
#include "storage/proc.h"
}

#include <cerrno>
#include <fcntl.h>
#include <memory>
#include <sys/stat.h>
#include <unistd.h>

namespace seal::pg {

namespace {

constexpr char kAsidePath[] = "pg_seal/registry.new";
constexpr std::size_t kMaxRegistrySize = 64u << 20;
constexpr char kRemedy[] =
	"Restore the file from a backup of this cluster, or copy it from a standby; without it no sealed "
	"relation can be read.";

[[noreturn]] void raise_file(const char* what, const char* path, int error)
{
	raise({ErrorCode::io_error, "could not " + std::string(what) + " \"" + path + "\": " + strerror(error),
	       error == ENOSPC ? "Free space in the data directory and repeat the command; nothing was changed." : ""});
}

// A descriptor of this frame. Plain open(): these files are few, and it cannot raise.
class File {
public:
	File(const char* path, int flags) : fd_(::open(path, flags | O_CLOEXEC, pg_file_create_mode)) {}
	File(const File&) = delete;
	~File() { close(); }
	int fd() const noexcept { return fd_; }
	int close() noexcept
	{
		const int fd = fd_;
		fd_ = -1;
		return fd < 0 ? 0 : ::close(fd);
	}

private:
	int fd_;
};

void ensure_directory()
{
	struct stat info;
	if (stat(kSealDirectory, &info) == 0)
		return;
	if (mkdir(kSealDirectory, static_cast<mode_t>(pg_dir_create_mode)) != 0 && errno != EEXIST)
		raise_file("create directory", kSealDirectory, errno);
	File parent(".", O_RDONLY);
	if (parent.fd() < 0 || pg_fsync(parent.fd()) != 0)
		raise_file("fsync directory", ".", errno);
}

void write_aside(const std::string& text)
{
	File file(kAsidePath, O_WRONLY | O_CREAT | O_TRUNC);
	if (file.fd() < 0)
		raise_file("create file", kAsidePath, errno);
	if (crash_point("registry.write"))
		raise_file("write file", kAsidePath, ENOSPC);
	for (std::size_t done = 0; done < text.size();) {
		errno = 0;
		const ssize_t n = ::write(file.fd(), text.data() + done, text.size() - done);
		if (n > 0)
			done += static_cast<std::size_t>(n);
		else if (errno != EINTR)
			raise_file("write file", kAsidePath, errno ? errno : ENOSPC);
	}
	if (pg_fsync(file.fd()) != 0)
		raise_file("fsync file", kAsidePath, errno);
	if (file.close() != 0)
		raise_file("close file", kAsidePath, errno);
}

// Everything that can fail, done before the WAL record exists (or, in redo, before anything irreversible): the new file lies
// aside on disk, the tables are filled, the directory is open for its fsync.
struct Prepared {
	std::unique_ptr<RegistryTables> tables;
	std::unique_ptr<File> directory;
};

Prepared prepare(const Registry& next)
{
	Prepared prepared{std::make_unique<RegistryTables>(), nullptr};
	tables_fill(*prepared.tables, next);
	ensure_directory();
	write_aside(next.serialise());
	prepared.directory = std::make_unique<File>(kSealDirectory, O_RDONLY | O_DIRECTORY);
	if (prepared.directory->fd() < 0)
		raise_file("open directory", kSealDirectory, errno);
	return prepared;
}

// Critical: after the record is flushed (or replayed) the file must follow. A failure is PANIC and redo tries again.
void put_in_place(const Prepared& prepared) noexcept
{
	if (rename(kAsidePath, kRegistryPath) != 0)
		ereport(PANIC, (errcode_for_file_access(),
		                errmsg("could not rename \"%s\" to \"%s\": %m", kAsidePath, kRegistryPath)));
	crash_point("registry.after_rename");
	if (pg_fsync(prepared.directory->fd()) != 0)
		ereport(PANIC, (errcode_for_file_access(), errmsg("could not fsync directory \"%s\": %m", kSealDirectory)));
	tables_publish(*prepared.tables);
}

} // namespace

Registry registry_read()
{
	File file(kRegistryPath, O_RDONLY);
	if (file.fd() < 0) {
		if (errno == ENOENT)
			return Registry();
		raise_file("open file", kRegistryPath, errno);
	}
	std::string text;
	char block[8192];
	for (;;) {
		const ssize_t n = ::read(file.fd(), block, sizeof block);
		if (n == 0)
			break;
		if (n < 0) {
			if (errno == EINTR)
				continue;
			raise_file("read file", kRegistryPath, errno);
		}
		text.append(block, static_cast<std::size_t>(n));
		if (text.size() > kMaxRegistrySize)
			raise({ErrorCode::corrupt, "file \"" + std::string(kRegistryPath) + "\" is too large to be a registry",
			       kRemedy});
	}
	Result<Registry> registry = Registry::parse(text);
	if (!registry)
		raise({registry.error().code, registry.error().message,
		       registry.error().hint.empty() ? kRemedy : registry.error().hint});
	return std::move(registry.value());
}

void registry_commit(const RegistryChange& change)
{
	Assert(LWLockHeldByMeInMode(seal_lock(Lock::registry), LW_EXCLUSIVE));
	if (RecoveryInProgress())
		raise({ErrorCode::unsupported, "key providers, keyrings and policies cannot be changed during recovery",
		       "Change them on the primary server; the change arrives here by itself."});
	// A checkpoint waits for processes with a virtual transaction id only.
	if (!LocalTransactionIdIsValid(MyProc->lxid))
		raise({ErrorCode::unsupported, "the key registry can be changed inside a transaction only"});

	Registry next = registry_read();
	if (change.sequence != next.sequence() + 1)
		raise({ErrorCode::invalid_argument, "the key registry was changed meanwhile", "Repeat the command."});
	if (Status status = next.apply(change); !status)
		raise(status.error());
	Bytes record = change.encode();
	const Prepared prepared = prepare(next);
	crash_point("registry.before_insert");

	pg_call([&] {
		// The checkpoint whose redo point lies behind our record must not complete before the file is in place: redo would
		// never repair it then.
		START_CRIT_SECTION();
		Assert((MyProc->delayChkptFlags & DELAY_CHKPT_START) == 0);
		MyProc->delayChkptFlags |= DELAY_CHKPT_START;
		XLogBeginInsert();
		XLogRegisterData(reinterpret_cast<char*>(record.data()), static_cast<int>(record.size()));
		const XLogRecPtr end = XLogInsert(kRmgrId, kXlogRegistryChange);
		crash_point("registry.after_insert");
		XLogFlush(end);
		crash_point("registry.after_flush");
		put_in_place(prepared);
		MyProc->delayChkptFlags &= ~DELAY_CHKPT_START;
		END_CRIT_SECTION();
	});
	agent_wake();
}

void registry_redo(XLogReaderState* record)
{
	const ByteView data{reinterpret_cast<const uint8*>(XLogRecGetData(record)), XLogRecGetDataLen(record)};
	Result<RegistryChange> change = RegistryChange::decode(data);
	if (!change)
		raise({ErrorCode::corrupt, "a WAL record of the key registry does not parse: " + change.error().message});

	// The only writer during recovery; readers take no lock. The lock is for the order after recovery, when it is
	// held by those who commit.
	Registry next = registry_read();
	if (change->sequence <= next.sequence())
		return;
	if (change->sequence > next.sequence() + 1)
		pg_call([&] {
			ereport(WARNING,
			        (errmsg("the key registry lacks changes %llu to %llu", (unsigned long long) next.sequence() + 1,
			                (unsigned long long) change->sequence - 1),
			         errhint("The file \"%s\" is older than the data directory. Restore both from the same backup.",
			                 kRegistryPath)));
		});
	if (Status status = next.apply(*change); !status)
		raise(status.error());
	const Prepared prepared = prepare(next);
	wal_keys_load(next); // before the walreceiver may see that one is in use
	// In recovery this moves the minimum recovery point: a server that is started on this directory again must replay at
	// least up to the state that the file shows.
	pg_call([&] { XLogFlush(record->EndRecPtr); });
	put_in_place(prepared);
	agent_wake();
}

} // namespace seal::pg
