---@meta luassl
-- luacheck: ignore 212 241

---Why an operation failed, the same number everywhere:
---0 closed by the peer, -1 TLS failure, -2 timeout or would block, -3 cut, -4 the daemon went away,
----5 verification failed, -6 refused (identity, grant, limit), -7 misuse detected late.
---@alias luassl.Code 0|-1|-2|-3|-4|-5|-6|-7

---A sum of constants, or a list of their names (`"OP_NO_TLSv1_2"`, `"NO_TLSv1_2"`, `"no_tlsv1_2"`).
---@alias luassl.Sum integer|string|string[]

---PEM text, or the name of a PEM file that the program may read.
---@alias luassl.Pem string

---@class luassl.Options
---@field key? string the identity to use: its name, a path of its files, or an alias
---@field certificate? luassl.Pem the identity's chain if it carries its public key, otherwise authorities
---@field chain? luassl.Pem the identity's chain
---@field trust? string|string[] trusts of the daemon's configuration; "system" is the operating system's
---@field cafile? luassl.Pem|luassl.Pem[] authorities to trust
---@field certdir? string a directory of authorities and CRLs under hashed names
---@field crl? luassl.Pem|luassl.Pem[] certificate revocation lists
---@field resumption? boolean false: neither resume sessions nor let peers resume them
---@field crl_check_chain? boolean check the whole chain for revocation, not only the leaf
---@field verify? luassl.Sum VERIFY_ constants; default: clients verify, servers request no certificate
---@field depth? integer the maximum chain length below an authority; default 4
---@field options? luassl.Sum OP_ constants
---@field ciphers? string|string[] ciphers of TLS 1.2 in OpenSSL's notation
---@field ciphersuites? string|string[] cipher suites of TLS 1.3
---@field groups? string|string[] groups for the key exchange
---@field minimum_protocol? "TLSv1.2"|"TLSv1.3"
---@field maximum_protocol? "TLSv1.2"|"TLSv1.3"
---@field alpn? string|string[] application protocols in order of preference
---@field dh? string "auto", or a group of RFC 7919 such as "ffdhe2048"
---@field dhfile? luassl.Pem Diffie-Hellman parameters
---@field identities? string|string[] more identities of a server, chosen by the names in their certificates
---@field sni? table<string, string> identities of a server by the names that clients ask for; `*.example.org` too
---@field sni_strict? boolean refuse names that match no identity

---@class luassl.Info
---@field protocol string `TLSv1.2` or `TLSv1.3`
---@field cipher string OpenSSL's name of the cipher suite
---@field bits integer strength of the cipher
---@field group? string the group of the key exchange
---@field reused boolean whether a session was resumed
---@field alpn? string the application protocol
---@field sni? string the server name that was asked for
---@field verified boolean whether the peer sent a valid certificate
---@field verify string the result of the verification as text
---@field verify_code integer the same as OpenSSL's number; 0 is good
---@field peer_certificate boolean whether the peer sent a certificate
---@field peer string the peer's address, `address:port` or `[address]:port`
---@field address string the local address, likewise

---@class luassl.Certificate
---@field pem string
---@field subject string RFC 2253 text
---@field issuer string RFC 2253 text
---@field names string[] DNS names and IP addresses
---@field not_before integer seconds since 1970
---@field not_after integer seconds since 1970
---@field serial string hexadecimal
---@field sha1 string fingerprint, hexadecimal
---@field sha256 string fingerprint, hexadecimal
---@field chain string[] DER of the leaf and of what the peer sent with it

---@class luassl.Where
---@field listener? string a listener of the daemon's configuration, by its name
---@field port? integer|string
---@field address? string

---@class luassl.Object
local Object = {}

---Gives the object a context.
---@param key? string
---@param certificate? luassl.Pem
---@param certdir? string
---@param dhfile? luassl.Pem
---@param ciphers? string
---@param verify? luassl.Sum
---@param options? luassl.Sum
---@return luassl.Object? self, string? message, luassl.Code? code
---@overload fun(self: luassl.Object, options: luassl.Options): luassl.Object?, string?, luassl.Code?
function Object:wrap(key, certificate, certdir, dhfile, ciphers, verify, options) end

---Another object with the same context and no connection.
---@return luassl.Object? object, string? message, luassl.Code? code
function Object:new() end

---Listens on all addresses, or on one; port 0 is a free one.
---@param port integer|string
---@param address? string
---@return true? ok, string? message, luassl.Code? code
---@overload fun(self: luassl.Object, where: luassl.Where): true?, string?, luassl.Code?
function Object:bind(port, address) end

---The port of the listener.
---@return string? port, string? message, luassl.Code? code
function Object:getport() end

---The next connection as a separate object. The listener's object can use it too, until the next accept.
---@param expected? string|{expected?: string, report?: boolean} a name that the peer's certificate must carry
---@return luassl.Object? connection, string? message, luassl.Code? code, "handshake"? what
function Object:accept(expected) end

---Connects. Without arguments: continues a connect or attach that returned a timeout.
---@param address? string
---@param port? integer|string
---@param expected? string|false the name that the peer's certificate must carry; default: the address
---@return true? ok, string? message, luassl.Code? code
function Object:connect(address, port, expected) end

---Begins TLS on a connected socket and takes ownership of it.
---@param socket integer|table|userdata a descriptor, or a LuaSocket object
---@param options {role: "server"|"client", host: string|false|nil, sni?: string}
---@return true? ok, string? message, luassl.Code? code
function Object:attach(socket, options) end

---@param size? integer at most so many bytes
---@return string? data, luassl.Code? code, string? message
function Object:read(size) end

---@param data string|number
---@return luassl.Code? code, string? message, integer? written nothing on success
function Object:write(data) end

---TLS 1.2: a renegotiation. TLS 1.3: a key update, or a request for the client's certificate.
---@return true? ok, string? message, luassl.Code? code
function Object:renegotiate() end

---Closes the connection cleanly; without a connection, closes the listener.
---@return true? ok, string? message, luassl.Code? code
function Object:shutdown() end

---The same as shutdown.
---@return true? ok, string? message, luassl.Code? code
function Object:close() end

---Drops the connection at once, without close_notify.
---@return true
function Object:clear() end

---Releases connection, listener and context.
---@return true
function Object:free() end

---@param seconds? number nil waits forever, 0 does not wait
---@return true
function Object:settimeout(seconds) end

---The descriptor to poll, and the event while a connect is in progress.
---@return integer? fd, "read"|"write"|string|nil direction, luassl.Code? code
function Object:getfd() end

---@return string? address, integer|string|nil port, luassl.Code? code
function Object:getpeername() end

---@return string? address, integer|string|nil port, luassl.Code? code
function Object:getsockname() end

---Bytes that can be read without waiting.
---@return integer? count, string? message, luassl.Code? code
function Object:pending() end

---@return luassl.Info? info, string? message, luassl.Code? code
---@overload fun(self: luassl.Object, field: string): any
function Object:info() end

---@return luassl.Certificate? certificate a single nil if the peer sent none
---@return string? message
---@return luassl.Code? code
function Object:peercertificate() end

---Keying material (RFC 5705).
---@param label string
---@param length integer
---@param context? string
---@return string? data, string? message, luassl.Code? code
function Object:export(label, length, context) end

---@param name "tcp-nodelay"|"keepalive"
---@param value? boolean default true
---@return true? ok, string? message, luassl.Code? code
function Object:setoption(name, value) end

---Also contains every OP_ and VERIFY_ constant.
---@class luassl
---@field _VERSION string
---@field [string] integer
local luassl = {}

---An object without a context.
---@return luassl.Object
function luassl.create() end

---An object with a context.
---@param key? string
---@param certificate? luassl.Pem
---@param certdir? string
---@param dhfile? luassl.Pem
---@param ciphers? string
---@param verify? luassl.Sum
---@param options? luassl.Sum
---@return luassl.Object? object, string? message, luassl.Code? code
---@overload fun(options: luassl.Options): luassl.Object?, string?, luassl.Code?
function luassl.wrap(key, certificate, certdir, dhfile, ciphers, verify, options) end

return luassl
