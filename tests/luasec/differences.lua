-- What differs between LuaSec of Debian 12 (1.2.0) and luassl.luasec, one by one, with the reason. A test that does not
-- assert the same for both names its difference here.
return {
  ["newer API"] = "luassl has the API of LuaSec 1.3.2: getlocalcertificate, getlocalchain, _VERSION",
  ["superset"] = "getpeername, getsockname, shutdown, verify_host and keys of a psk that are known at once are asked "
    .. "for by LuaSec's users, and it has none of them; what a psk function throws goes through OpenSSL there",
  ["old protocols"] = "luassl speaks TLS 1.2 and 1.3 alone",
  ["file errors"] = "the reason is the system's (No such file or directory) in place of one left on OpenSSL's queue",
  ["unknown key"] = "a key is an identity of the daemon's: a file that it does not have is refused with its reason",
  ["mode is checked by setmode"] = "both take any mode in newcontext and refuse it in wrap; setmode's text is the same",
  ["curve text"] = "the text for one unknown curve depends on the version of LuaSec",
  ["after close"] = "LuaSec crashes in dohandshake, getalpn, getsniname and sni after close: luassl answers",
  ["names in messages"] = "LuaSec's thrown messages count the object as argument 1 and have ? for the method's name",
  ["chain of nobody"] = "where the client sent none, LuaSec's chain is one object that holds no certificate",
  ["state of getpeerfinished"] = "before the handshake LuaSec gives no value in place of nil and closed",
}
