"""A name server for tests: answers over UDP and TCP on loopback, in threads of its own, and misbehaves when it is told to."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from typing import Any

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset


class DnsServer:
    """What a resolver that knows everything would say: `zone` is what there is, `how` how it behaves.

    zone: (name, type) -> (TTL, texts of records); use `put` and `take_away`. how: by type, or "*" for all: "silent", "servfail",
    "refused", "truncated" (over UDP, whole over TCP), "cut" (truncated everywhere), "garbage", "forged" (an answer with another
    id and other records comes first), "other question", "referral", "slow" (after 0.3 s), "bare" (nothing comes along, and no
    alias is followed). how_of: the same by name. negative_ttl: how long it holds that there is nothing, None says
    nothing of that.
    asked: (name, type, "udp" | "tcp") of each question.
    """

    def __init__(self) -> None:
        self.negative_ttl: int | None = 7
        self.zone: dict[tuple[str, str], tuple[int, list[str]]] = {}
        self.how: dict[str, str] = {}
        self.how_of: dict[str, str] = {}
        self.asked: list[tuple[str, str, str]] = []
        self._stopped = False
        self._tcp, self._udp = _both_on_one_port()
        self.port: int = self._udp.getsockname()[1]
        self._threads = [threading.Thread(target=run, daemon=True) for run in (self._serve_udp, self._serve_tcp)]
        for thread in self._threads:
            thread.start()

    @property
    def address(self) -> str:
        """Where it is, as the configuration has it."""
        return f"127.0.0.1:{self.port}"

    def put(self, name: str, kind: str, *records: str, ttl: int = 60) -> None:
        """Have a name say this from now on."""
        self.zone = {**self.zone, (name, kind): (ttl, list(records))}

    def take_away(self, name: str, kind: str) -> None:
        """Have a name say nothing of this type from now on; without any type it does not exist."""
        self.zone = {key: value for key, value in self.zone.items() if key != (name, kind)}

    def count(self, kind: str = "A") -> int:
        """How often it was asked for records of a type."""
        return sum(1 for _, asked, _ in self.asked if asked == kind)

    def stop(self) -> None:
        """End; from then on its port refuses."""
        self._stopped = True
        for sock in (self._udp, self._tcp):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        for thread in self._threads:
            thread.join(5)

    def _serve_udp(self) -> None:
        while not self._stopped:
            try:
                wire, client = self._udp.recvfrom(4096)
            except OSError:
                return
            if self._stopped:  # woken, with nothing
                return
            threading.Thread(target=self._answer_udp, args=(wire, client), daemon=True).start()

    def _answer_udp(self, wire: bytes, client: Any) -> None:
        for answer in self._answers(wire, "udp"):
            with contextlib.suppress(OSError):
                self._udp.sendto(answer, client)

    def _serve_tcp(self) -> None:
        while not self._stopped:
            try:
                sock, _ = self._tcp.accept()
            except OSError:
                return
            threading.Thread(target=self._answer_tcp, args=(sock,), daemon=True).start()

    def _answer_tcp(self, sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError, struct.error):
            (length,) = struct.unpack("!H", sock.recv(2))
            for answer in self._answers(sock.recv(length), "tcp"):
                sock.sendall(struct.pack("!H", len(answer)) + answer)

    def _answers(self, wire: bytes, transport: str) -> Iterator[bytes]:
        query = dns.message.from_wire(wire)
        question = query.question[0]
        name, kind = question.name.to_text(omit_final_dot=True).lower(), dns.rdatatype.to_text(question.rdtype)
        self.asked.append((name, kind, transport))
        how = self.how_of.get(name) or self.how.get(kind, self.how.get("*", ""))
        if how == "silent":
            return
        if how == "garbage":
            yield wire[:2] + b"\x84\x00\x00\x01\x00\x09\x00\x00\x00\x00" + b"\xff" * 20
            return
        if how == "slow":
            time.sleep(0.3)
        if how in ("servfail", "refused"):
            answer = dns.message.make_response(query, recursion_available=True)
            answer.set_rcode(dns.rcode.SERVFAIL if how == "servfail" else dns.rcode.REFUSED)
            yield answer.to_wire()
            return
        if how == "forged":
            forged = dns.message.make_response(query, recursion_available=True)
            forged.id = (query.id + 1) % 65_536
            forged.answer.append(dns.rrset.from_text(question.name, 60, "IN", "A", "203.0.113.66"))
            yield forged.to_wire()
        answer = self._answer(query, name, kind, how)
        if how == "other question":
            answer.question = dns.message.make_query("elsewhere.test", kind).question
        if (how == "truncated" and transport == "udp") or how == "cut":
            answer.answer.clear()
            answer.additional.clear()
            answer.flags |= dns.flags.TC
        yield answer.to_wire(max_size=65_535 if transport == "tcp" or how != "truncated" else 512)

    def _answer(self, query: Any, name: str, kind: str, how: str) -> Any:
        answer = dns.message.make_response(query, recursion_available=True)
        if how == "referral":
            answer.authority.append(dns.rrset.from_text(f"{name}.", 60, "IN", "NS", "ns.elsewhere.test."))
            return answer
        zone = self.zone
        while (name, kind) not in zone and (name, "CNAME") in zone:
            ttl, texts = zone[name, "CNAME"]
            answer.answer.append(dns.rrset.from_text(f"{name}.", ttl, "IN", "CNAME", *texts))
            name = texts[0].rstrip(".").lower()
            if how == "bare":
                return answer
        if (name, kind) in zone:
            ttl, texts = zone[name, kind]
            answer.answer.append(dns.rrset.from_text(f"{name}.", ttl, "IN", kind, *texts))
            if kind == "SRV" and how != "bare":
                for target in dict.fromkeys(text.split()[3].rstrip(".").lower() for text in texts):
                    for family in ("A", "AAAA"):
                        if (target, family) in zone:
                            ttl, addresses = zone[target, family]
                            answer.additional.append(dns.rrset.from_text(f"{target}.", ttl, "IN", family, *addresses))
            return answer
        if not any(known == name for known, _ in zone):
            answer.set_rcode(dns.rcode.NXDOMAIN)
        if self.negative_ttl is None:
            return answer
        soa = f"ns.test. admin.test. 1 60 60 60 {self.negative_ttl}"
        answer.authority.append(dns.rrset.from_text(name.rpartition(".")[2] + ".", 3600, "IN", "SOA", soa))
        return answer


@contextlib.contextmanager
def dns_server() -> Iterator[DnsServer]:
    """A name server for the time of a test."""
    server = DnsServer()
    try:
        yield server
    finally:
        server.stop()


def _both_on_one_port() -> tuple[socket.socket, socket.socket]:
    """A TCP listener and a UDP socket on one free port."""
    while True:
        tcp = socket.create_server(("127.0.0.1", 0))
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            udp.bind(tcp.getsockname())
        except OSError:
            tcp.close()
            udp.close()
        else:
            return tcp, udp
