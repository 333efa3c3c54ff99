#!/usr/bin/env python3
"""Generated requests against Java's servers and ours: code, remark class and field names are equal, or the difference
is listed in differs.txt. Started by run.sh. Last line `N passed, M failed`; exit 0, 1 when a request failed, 2 when it
could not run."""

import argparse
import collections
import copy
import sys
import time
from pathlib import Path

import compare
import generate
from sides import Side, exchange
from wire import Command

HERE = Path(__file__).parent


# Domains whose values are names that requests leave something behind.
NAMES = {"topic", "newtopic", "oldtopic", "group", "newgroup", "oldgroup", "replytopic", "namespace", "broker", "routetopic", "oldroute"}
HALF = {"RMQ_SYS_TRANS_HALF_TOPIC"}
HEARTBEAT = 20.0  # seconds; a client or broker that is silent for 120 is forgotten
# Requests that leave something behind.
WRITES = generate.CHANGES | {10, 11, 34, 37, 200, 310, 320, 323, 324, 325}


class Judge:
    """Compares outcomes; remembers what each side did that the other did not, after which values there differ."""

    def __init__(self, rules):
        self.rules = rules
        self.drifted = set()
        self.without_values = 0

    def names(self, request):
        fields = {name: domain for name, _, _, domain in request.row["fields"]}
        ext = request.ext or {}
        half = HALF if "half" in request.kinds.values() else set()
        return {str(ext[name]) for name, domain in fields.items() if name in ext and domain in NAMES} | half

    def has_values(self, request):
        return not self.names(request) & self.drifted

    def compare(self, request, sides, answers):
        """(differences, outcome of Java, ours)."""
        values = self.has_values(request)
        outcomes = [compare.outcome(request.row, answer, callbacks, side.own, values)
                    for side, (answer, callbacks) in zip(sides, answers)]
        return compare.differences(*outcomes), outcomes

    def after(self, request, found):
        """A request that one side did and the other did not leaves other numbers behind."""
        self.without_values += not self.has_values(request)
        if request.code in (215, 316):
            # Java deletes the queues of every topic without a configuration, the half messages among them.
            self.drifted |= HALF
        if request.code not in WRITES:
            return
        for part, java, ours in found:
            if part == "answer" and (java.startswith("0 ") or java == "none") != (ours.startswith("0 ") or ours == "none"):
                # The half messages of the set-up belong to T2: Java commits one twice (W-64).
                self.drifted |= self.names(request) | ({"T2"} if request.code == 37 else set())


def tweaks(answer, values):
    """What a wrong broker could have answered instead of `answer`: (name, answer). Values of header fields are
    compared with those of `values`, Java's answer, if at all, and if that has the same code."""
    if isinstance(answer, str):
        return [("another end", "closed" if answer == "none" else "none")]
    def changed(**fields):
        other = copy.copy(answer)
        for name, content in fields.items():
            setattr(other, name, content)
        return other
    out = [("no answer", "none"), ("code", changed(code=answer.code + 1)),
           ("remark", changed(remark=(answer.remark or "") + " and more")),
           ("field more", changed(ext={**(answer.ext or {}), "plantedField": "1"}))]
    if answer.ext:
        name = sorted(answer.ext)[0]
        others = values.ext or {} if isinstance(values, Command) and values.code == answer.code else {}
        plain = [name for name in sorted(answer.ext) if name in others and name not in compare.MASKED]
        if plain:
            out.append(("value", changed(ext={**answer.ext, plain[0]: answer.ext[plain[0]] + "1"})))
        out.append(("field less", changed(ext={k: v for k, v in answer.ext.items() if k != name})))
    if answer.body:
        out.append(("body lost", changed(body=b"")))
        if answer.body.startswith(b"{") and b":" in answer.body:
            out.append(("body member", changed(body=b'{"plantedMember":1,' + answer.body[1:].lstrip())))
    else:
        out.append(("body from nowhere", changed(body=b'{"planted":1}')))
    return out


def show(request):
    fields = {name: str(content)[:60] for name, content in (request.ext or {}).items()}
    kinds = " ".join(f"{name}={kind}" for name, kind in request.kinds.items() if kind not in ("valid", "left-out", "none"))
    form = " ".join(word for word, on in [("binary", request.binary), ("oneway", request.oneway)] if on)
    return f"{request.row['name']} ({request.code}) {kinds} {form} fields={fields} body={request.body[:80]!r}"


def in_order(options):
    """Last what makes one side's later answers incomparable."""
    return sorted(range(options.count), key=lambda number: generate.request(options.seed, number).poisons())


def run(options, sides):
    rules = compare.read_rules(HERE / "differs.txt")
    judge = Judge(rules)
    begun = time.monotonic()
    numbers = [options.only] if options.only is not None else in_order(options)
    failed, listed, kinds, planted, hidden = 0, 0, collections.Counter(), 0, []
    beat = begun + HEARTBEAT
    for number in numbers:
        if time.monotonic() > beat:
            beat = time.monotonic() + HEARTBEAT
            for side in sides:
                side.heartbeat()
        request = generate.request(options.seed, number)
        answers = exchange(sides, request)
        found, outcomes = judge.compare(request, sides, answers)
        left, used = compare.judge(rules, request, found)
        if options.only is not None or options.verbose:
            print(f"#{number} {show(request)}\n  java {outcomes[0]}\n  ours {outcomes[1]}")
        for rule in used:
            rule.used += 1
        listed += bool(used)
        if left:
            failed += 1
            kinds[request.row["name"]] += 1
            print(f"FAIL #{number} {show(request)}")
            for part, java, ours in left:
                print(f"  {part}: java {java[:1500]!r}\n  {' ' * len(part)}  ours {ours[:1500]!r}")
            print(f"  again: just differential {options.count} --seed {options.seed} --only {number}")
        else:
            for name, other in tweaks(answers[1][0], judge.has_values(request) and answers[0][0]):
                planted += 1
                again, _ = judge.compare(request, sides, [answers[0], (other, answers[1][1])])
                # What is then as Java's is no fault.
                if again and not compare.judge(rules, request, again)[0]:
                    hidden.append((number, name, request))
        judge.after(request, found)
    print(f"{judge.without_values} compared without numbers, because one side had done what the other refused")
    return report(options, rules, len(numbers), failed, listed, kinds, planted, hidden, begun)


def report(options, rules, count, failed, listed, kinds, planted, hidden, begun):
    for name, times in kinds.most_common():
        print(f"{times:5} {name}")
    if options.count >= 2000 and options.only is None:
        idle = [str(rule.number) for rule in rules if not rule.used]
        if idle:
            print(f"warning: rules that matched nothing with this seed: differs.txt lines {' '.join(idle)}")
    for number, name, request in hidden[:20]:
        print(f"HIDDEN #{number} {name}: {show(request)}")
    print(f"{count} requests in {time.monotonic() - begun:.1f} s")
    print(f"self-check: {planted} planted answers, {planted - len(hidden)} found")
    print(f"{count - failed - listed} equal, {listed} differ as listed, {failed} differ")
    failed += bool(hidden)
    print(f"{count - min(failed, count)} passed, {failed} failed")
    return 1 if failed else 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("count", type=int)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int)
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("--run", type=Path, required=True, help="an empty directory for servers and logs")
    options = parser.parse_args()
    pair = [Side("java", options.run), Side("hotfire", options.run)]
    begun = time.monotonic()
    try:
        for side in pair:
            side.start()
        for side in pair:
            side.prepare()
        print(f"both sides up and prepared in {time.monotonic() - begun:.1f} s; seed {options.seed}")
        return run(options, pair)
    except (RuntimeError, AssertionError, OSError, KeyError) as error:
        if options.verbose:
            raise
        print(f"could not run: {type(error).__name__} {error}", file=sys.stderr)
        return 2
    finally:
        for side in pair:
            side.stop()


if __name__ == "__main__":
    sys.exit(main())
