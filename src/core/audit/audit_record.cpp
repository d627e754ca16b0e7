#include "seal/audit.hpp"

#include <chrono>
#include <cstdio>

#include <nlohmann/json.hpp>

namespace seal {

namespace {

using Json = nlohmann::ordered_json; // a line reads in the order in which it is documented

// Foreign bytes become U+FFFD: an audit line must be written whatever it is given.
std::string dump(const Json& value) { return value.dump(-1, ' ', false, Json::error_handler_t::replace); }

std::string text_member(const Json& object, const char* name)
{
	const auto found = object.find(name);
	return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

Json parse(std::string_view text)
{
	if (!json_nesting_at_most(text, kMaxJsonNesting))
		return Json(nlohmann::detail::value_t::discarded);
	return Json::parse(text, nullptr, false);
}

Json parse_object(const std::string& text)
{
	Json value = parse(text);
	return value.is_object() ? value : Json::object();
}

// The length of a name is bounded by the server, but an object may be named by its caller.
std::string cut(const std::string& text)
{
	constexpr std::size_t kMaxText = 1024;
	return text.size() <= kMaxText ? text : text.substr(0, kMaxText);
}

} // namespace

bool json_nesting_at_most(std::string_view text, unsigned levels) noexcept
{
	unsigned depth = 0;
	bool quoted = false;
	for (std::size_t i = 0; i < text.size(); i++) {
		const char c = text[i];
		if (quoted) {
			if (c == '\\')
				i++;
			else if (c == '"')
				quoted = false;
		} else if (c == '"') {
			quoted = true;
		} else if (c == '{' || c == '[') {
			if (++depth > levels)
				return false;
		} else if ((c == '}' || c == ']') && depth > 0) {
			depth--;
		}
	}
	return true;
}

struct AuditDetail::Members {
	Json object = Json::object();
};

AuditDetail::AuditDetail() : members_(new Members) {}
AuditDetail::AuditDetail(AuditDetail&&) noexcept = default;
AuditDetail& AuditDetail::operator=(AuditDetail&&) noexcept = default;
AuditDetail::~AuditDetail() = default;

AuditDetail& AuditDetail::text(const char* name, std::string_view value)
{
	members_->object[name] = std::string(value);
	return *this;
}

AuditDetail& AuditDetail::number(const char* name, std::int64_t value)
{
	members_->object[name] = value;
	return *this;
}

AuditDetail& AuditDetail::flag(const char* name, bool value)
{
	members_->object[name] = value;
	return *this;
}

AuditDetail& AuditDetail::json(const char* name, std::string_view value)
{
	Json parsed = parse(value);
	if (parsed.is_discarded())
		return text(name, value);
	members_->object[name] = std::move(parsed);
	return *this;
}

std::string AuditDetail::str() const { return dump(members_->object); }

std::string audit_time_text(std::int64_t microseconds)
{
	using namespace std::chrono;
	const sys_time<std::chrono::microseconds> at{std::chrono::microseconds(microseconds)};
	const auto day = floor<days>(at);
	const year_month_day date{day};
	const hh_mm_ss<std::chrono::microseconds> time{at - day};
	char text[48];
	std::snprintf(text, sizeof text, "%04d-%02u-%02uT%02d:%02d:%02d.%06dZ", static_cast<int>(date.year()),
	              static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()),
	              static_cast<int>(time.hours().count()), static_cast<int>(time.minutes().count()),
	              static_cast<int>(time.seconds().count()), static_cast<int>(time.subseconds().count()));
	return text;
}

bool audit_time_parse(std::string_view text, std::int64_t& microseconds)
{
	using namespace std::chrono;
	constexpr std::string_view kShape = "dddd-dd-ddTdd:dd:dd.ddddddZ";
	if (text.size() != kShape.size())
		return false;
	for (std::size_t i = 0; i < kShape.size(); i++)
		if (kShape[i] == 'd' ? text[i] < '0' || text[i] > '9' : text[i] != kShape[i])
			return false;
	const auto number = [&](std::size_t at, std::size_t size) {
		unsigned value = 0;
		for (std::size_t i = at; i < at + size; i++)
			value = value * 10 + static_cast<unsigned>(text[i] - '0');
		return value;
	};
	const year_month_day date{year{static_cast<int>(number(0, 4))}, month{number(5, 2)}, day{number(8, 2)}};
	if (!date.ok() || number(0, 4) < 1970 || number(11, 2) > 23 || number(14, 2) > 59 || number(17, 2) > 59)
		return false;
	const auto at = sys_days{date} + hours{number(11, 2)} + minutes{number(14, 2)} + seconds{number(17, 2)} +
	                std::chrono::microseconds{number(20, 6)};
	microseconds = at.time_since_epoch().count();
	return true;
}

std::string encode_audit_line(const AuditRecord& record)
{
	Json line = Json::object();
	line["seq"] = record.seq;
	line["at"] = audit_time_text(record.at);
	line["event"] = cut(record.event);
	line["actor"] = cut(record.actor);
	line["role"] = cut(record.role);
	line["client"] = cut(record.client);
	line["application"] = cut(record.application);
	line["database"] = cut(record.database);
	line["object"] = cut(record.object);
	line["result"] = cut(record.result);
	line["detail"] = parse_object(record.detail);
	std::string text = dump(line);
	if (text.size() + 1 > kMaxAuditLine) {
		line["detail"] = Json{{"left_out", "the detail was longer than a line of the audit log may be"}};
		text = dump(line);
	}
	text.push_back('\n');
	return text;
}

Result<AuditRecord> decode_audit_line(std::string_view line)
{
	const Error bad(ErrorCode::corrupt, "not a record of the audit log");
	if (line.size() > kMaxAuditLine)
		return bad;
	const Json object = parse(line);
	if (!object.is_object())
		return bad;
	const auto seq = object.find("seq");
	const auto detail = object.find("detail");
	AuditRecord record;
	if (seq == object.end() || !seq->is_number_unsigned() || !audit_time_parse(text_member(object, "at"), record.at))
		return bad;
	record.seq = seq->get<std::uint64_t>();
	record.event = text_member(object, "event");
	record.actor = text_member(object, "actor");
	record.role = text_member(object, "role");
	record.client = text_member(object, "client");
	record.application = text_member(object, "application");
	record.database = text_member(object, "database");
	record.object = text_member(object, "object");
	record.result = text_member(object, "result");
	if (record.event.empty() || record.result.empty())
		return bad;
	record.detail = detail != object.end() && detail->is_object() ? dump(*detail) : "{}";
	return record;
}

} // namespace seal
