"""What an answer says, in the words that must be equal on both sides, and the list of what may differ."""

import re
from pathlib import Path

from wire import Lenient, Object, message_units

# Members of bodies whose keys are data.
MAPS = {"topicConfigTable", "offsetTable", "subscriptionGroupTable", "brokerAddrTable", "brokerAddrs", "clusterAddrTable",
        "consumerTable", "messageQueueTable", "subscriptionTable", "correctionOffsets", "mqTable", "statusTable",
        "filterServerTable", "kvTable", "item of consumeStatsList"}
# Header fields whose values are of a time, a place or a random choice.
MASKED = {"msgId", "version", "indexLastUpdateTimestamp", "indexLastUpdatePhyoffset", "timestamp", "transactionId"}
EXCEPTION = re.compile(r"^((?:[a-z]\w*\.)+[A-Z]\w*(?:Exception|Error))(?:: ?(.*))?$", re.S)
# At the end of a remark; a search in a long one takes minutes, in which what both sides know of clients and brokers expires.
FRAME_LENGTH_MAX = 400
TOP_FRAME = re.compile(r",? ?(?:[a-z][\w.]*/)?[a-z]\w*(?:\.[\w$<>]+)+\([\w. ]+(?::\d+)?\)$")


def remark_class(remark, own):
    """A remark without numbers, ids, addresses and places in Java's code."""
    if remark is None:
        return "-"
    head, tail = remark[:-FRAME_LENGTH_MAX], remark[-FRAME_LENGTH_MAX:]
    text = head + (TOP_FRAME.sub("", tail) if tail.endswith(")") else tail)
    for word, instead in own:
        text = text.replace(word, instead)
    text = re.sub(r"\b[0-9A-F]{32}\b", "ID", text)
    text = re.sub(r"/?\b\d+\.\d+\.\d+\.\d+(:\d+)?\b", "ADDR", text)
    text = re.sub(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?", "TIME", text)
    text = re.sub(r"-?\d+(\.\d+)?", "N", text)
    found = EXCEPTION.match(text)
    if found:
        name, rest = found[1].rsplit(".", 1)[1], found[2] or ""
        if name == "NullPointerException":
            rest = ""
        return f"exception {name}: {rest}".rstrip(": ")
    return text.replace("\n", "\\n")


def shape(value, name=""):
    """Field names and types, recursively; of maps and lists the distinct shapes."""
    if isinstance(value, Object):
        if name in MAPS or not value.is_record():
            keys = sorted({"object" if isinstance(key, Object) else "text" if isinstance(key, str) else "number"
                           for key, _ in value.pairs})
            return "map(" + "|".join(keys) + ":" + "|".join(sorted({shape(v) for _, v in value.pairs})) + ")"
        return "{" + ",".join(sorted(f"{k}:{shape(v, k)}" for k, v in value.pairs)) + "}"
    if isinstance(value, list):
        return "[" + "|".join(sorted({shape(item, "item of " + name) for item in value})) + "]"
    return {bool: "bool", int: "int", float: "float", str: "text"}.get(type(value), "null")


def full(value, own):
    """As shape, with the values that do not depend on time or place."""
    if isinstance(value, Object):
        pairs = sorted(f"{full(k, own) if isinstance(k, Object) else k}:{full(v, own)}" for k, v in value.pairs)
        return "{" + ",".join(pairs) + "}"
    if isinstance(value, list):
        return "[" + ",".join(sorted(full(item, own) for item in value)) + "]"
    if isinstance(value, int) and not isinstance(value, bool) and value > 10**12:
        return "time"
    text = str(value)
    for word, instead in own:
        text = text.replace(word, instead)
    return text


def body_words(row, command, own, values):
    body = command.body
    if not body:
        return "empty"
    if row["code"] in (11, 12, 33) and command.code == 0:
        try:
            units = message_units(body)
            if not values:
                return "messages of " + ", ".join(sorted({unit["topic"] for unit in units}))
            return "messages " + "; ".join(map(message_words, units))
        except ValueError as error:
            return f"no messages ({error})"
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return "bytes"
    if row.get("text") == "names":
        return "keys " + " ".join(sorted(line.split("=")[0].strip() for line in text.splitlines() if "=" in line))
    try:
        parsed = Lenient(text).parse()
    except ValueError as error:
        return f"no JSON ({error})"
    if row.get("text") == "members":
        names = {name for member, table in parsed.pairs
                 for name in ([key for key, _ in table.pairs] if isinstance(table, Object) else [member])}
        for word, instead in own:
            names = {name.replace(word, instead) for name in names}
        return "keys " + " ".join(sorted({re.sub(r"_\d+$", "_N", name) for name in names}))
    return full(parsed, own) if row.get("values") == "all" else shape(parsed)


def message_words(unit):
    words = [f"{name}={unit[name]}" for name in ("topic", "queue", "offset", "flag", "sysFlag", "times")]
    body = unit["body"] if len(unit["body"]) < 80 else f"{len(unit['body']) // 2} bytes"
    return " ".join(words + [f"body={body}"] + [re.sub(r"[0-9A-F]{32}", "ID", p.replace("\1", "=")) for p in unit["properties"]])


def outcome(row, answer, callbacks, own, values=True):
    """An answer as a dictionary of parts. `answer` is a Command or why there is none; `own` are pairs of words of
    this side and what to say instead; `values` compares the values of header fields too."""
    if isinstance(answer, str):
        return {"answer": answer, **({"callback": callbacks} if callbacks else {})}
    parts = {"answer": f"{answer.code} {remark_class(answer.remark, own)}", "body": body_words(row, answer, own, values)}
    ext = answer.ext or {}
    parts["ext"] = " ".join(sorted(ext)) or "-"
    if values:
        for name, content in ext.items():
            if name not in MASKED:
                for word, instead in own:
                    content = content.replace(word, instead)
                parts[f"ext.{name}"] = content
    if answer.flag != 1:
        parts["flag"] = str(answer.flag)
    if callbacks:
        parts["callback"] = callbacks
    return parts


def differences(java, ours):
    """(part, Java's, ours) for every part that is not equal. Where the codes differ, that is one difference
    with all that was answered; values are compared only where both are there."""
    if java["answer"].split(" ")[0] != ours["answer"].split(" ")[0]:
        return [("answer", whole(java), whole(ours))]
    found = []
    for part in sorted(java.keys() | ours.keys()):
        one, two = java.get(part, "-"), ours.get(part, "-")
        if part.startswith("ext.") and (part not in java or part not in ours):
            continue
        if part == "body" and one.startswith("keys ") and two.startswith("keys "):
            first, second = set(one.split()), set(two.split())
            one, two = " ".join(sorted(first - second)) or "-", " ".join(sorted(second - first)) or "-"
        if one != two:
            found.append((part, one, two))
    return found


def whole(outcome):
    """An answer with its field names and its body, where it has any."""
    fields = f" fields {outcome['ext']}" if outcome.get("ext", "-") != "-" else ""
    body = f" body {outcome['body']}" if outcome.get("body", "empty") != "empty" else ""
    return outcome["answer"] + fields + body


class Rule:
    """CODES | CONDITION | PART | JAVA | OURS | BECAUSE.

    A condition is words of the request, all of which must be there; `a=b/c` is either. In JAVA and OURS `*` is anything,
    `((a||b))` is either; in OURS `{1}` is what the first `*` of JAVA stood for, `{=topic}` the request's topic, and `{field}` a field that the condition matched."""

    def __init__(self, line, number):
        cells = [cell.strip() for cell in line.split(" | ")]
        if len(cells) != 6 or not cells[5]:
            raise ValueError(f"differs.txt:{number}: expected six cells, found {len(cells)}")
        codes, condition, self.part, java, self.ours, self.because = cells
        self.number, self.line, self.used = number, line, 0
        self.java = re.compile(pattern(java), re.S)
        self.codes = None if codes == "*" else {int(code) for code in codes.split(",")}
        self.words = [] if condition == "-" else [re.compile(either(word), re.S) for word in condition.split()]

    def covers(self, request, difference, words):
        if self.codes is not None and request.code not in self.codes and request.row["code"] not in self.codes:
            return False
        part, java, ours = difference
        found = self.java.fullmatch(java)
        if part != self.part or not found:
            return False
        fields = []
        for word in self.words:
            met = [name for text, name in words if word.fullmatch(text)]
            if not met:
                return False
            fields += met
        expected = pattern(self.ours)
        for at, group in enumerate(found.groups(), 1):
            expected = expected.replace(re.escape("{%d}" % at), re.escape(group))
        for name, content in (request.ext or {}).items():
            if "{=%s}" % name in self.ours:
                expected = expected.replace(re.escape("{=%s}" % name), re.escape(remark_class(str(content), [])))
        choices = [expected]
        if "{field}" in self.ours:
            names = {re.sub(r"\d+", "N", name) for name in fields if name}
            choices = [expected.replace(re.escape("{field}"), re.escape(name)) for name in names]
        return any(re.fullmatch(choice, ours, re.S) for choice in choices)


def either(word):
    """`a=b/c` and `a=b/d=c`."""
    if "=" not in word and ":" not in word:
        return plain(word)
    name = word.split("=")[0]
    choices = word.split("/")
    return "|".join(plain(choice if "=" in choice or ":" in choice else f"{name}={choice}") for choice in choices)


def pattern(glob):
    """`*` is anything, `((a||b))` one of these; nothing else is special."""
    choice = re.compile(r"\(\((.*?)\)\)")
    out, at = "", 0
    for found in choice.finditer(glob):
        out += plain(glob[at:found.start()]) + "(?:" + "|".join(map(plain, found[1].split("||"))) + ")"
        at = found.end()
    return out + plain(glob[at:])


def plain(glob):
    return "(.*)".join(map(re.escape, glob.split("*")))


def read_rules(path):
    rules = []
    for number, line in enumerate(Path(path).read_text().splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            rules.append(Rule(line, number))
    return rules


def judge(rules, request, found):
    """(differences that no rule covers, the rules that cover the others)."""
    words, left, used = request.words(), [], []
    for difference in found:
        rule = next((rule for rule in rules if rule.covers(request, difference, words)), None)
        if rule is None:
            left.append(difference)
        else:
            used.append(rule)
    return left, used
