// AuditRecord: one event of the audit log and the line of JSON that it is on disk.
//
// A line is one JSON object in UTF-8, ended by a newline, never holding one inside, at most kMaxAuditLine bytes. Members:
//   seq (number), at (UTC, "2026-01-31T12:00:00.000000Z"), event, actor, role, client, application, database, object,
//   result ("ok" or "failed"), detail (object). Readers ignore members they do not know.
// No member ever holds a key, a PIN, a passphrase or plaintext: whoever fills a record answers for that.
#pragma once

#include "seal/bytes.hpp"
#include "seal/result.hpp"

#include <memory>
#include <string>
#include <string_view>

namespace seal {

inline constexpr char kAuditDirectory[] = "pg_seal/audit"; // relative to the data directory, unless a setting moves it
inline constexpr char kAuditSuffix[] = ".jsonl";
inline constexpr std::size_t kMaxAuditLine = 96 * 1024;

struct AuditRecord {
	std::uint64_t seq = 0; // given by the log when it is appended: one more than the last
	std::int64_t at = 0;   // microseconds since 1970, given by the log
	std::string event;     // "keyring.create", "kek.rotate", ...
	std::string actor;     // who logged in (session user); empty for the server itself
	std::string role;      // whose rights were used
	std::string client;    // address, "[local]", or empty for the server itself
	std::string application, database;
	std::string object;    // the thing acted on, by its name
	std::string result;    // "ok", "failed"
	std::string detail = "{}"; // a JSON object as text
};

// The members of `detail`, built one by one. Text that is not UTF-8 is replaced character by character, never refused.
class AuditDetail {
public:
	AuditDetail();
	AuditDetail(AuditDetail&&) noexcept;
	AuditDetail& operator=(AuditDetail&&) noexcept;
	~AuditDetail();
	AuditDetail& text(const char* name, std::string_view value);
	AuditDetail& number(const char* name, std::int64_t value);
	AuditDetail& flag(const char* name, bool value);
	AuditDetail& json(const char* name, std::string_view value); // a JSON document; kept as text if it does not parse
	std::string str() const;

private:
	struct Members;
	std::unique_ptr<Members> members_;
};

// The line with its newline. A record that would be longer than kMaxAuditLine keeps everything but its detail.
std::string encode_audit_line(const AuditRecord& record);
// Without or with its newline. corrupt: not a record.
Result<AuditRecord> decode_audit_line(std::string_view line);

// Is no array or object nested deeper? Checked before text from outside is parsed: the JSON library recurses.
inline constexpr unsigned kMaxJsonNesting = 64;
bool json_nesting_at_most(std::string_view text, unsigned levels) noexcept;

// "2026-01-31T12:00:00.000000Z" and back; years 1970 to 9999.
std::string audit_time_text(std::int64_t microseconds);
bool audit_time_parse(std::string_view text, std::int64_t& microseconds);

} // namespace seal
