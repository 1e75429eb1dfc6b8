#!/bin/sh
# dev-pki.sh DIR: makes a development PKI with the openssl command. Not for production: its CA keys lie beside it.
#
#   DIR/ca/      root.{key,crt}, server-ca.{key,crt}: the issuers
#   DIR/keys/    what programs name, in the layout of LuaSSL's quickstart:
#                rootcert.pem                        the root CA's certificate
#                server.pem client.pem               RSA: leaf, key, then issuers
#                server-TYPE.pem client-TYPE.pem     the same for TYPE in rsa p256 p384 ed25519
#                dhparams.pem                        Diffie-Hellman parameters (ffdhe2048)
#   DIR/bare/    server.key and server.crt (leaf, then issuers) apart
#
# A root CA signs a server CA and the clients; the server CA signs the servers (localhost, 127.0.0.1, ::1).
set -eu

[ $# = 1 ] || { echo "usage: dev-pki.sh DIR" >&2; exit 2; }
umask 077
mkdir -p "$1/ca" "$1/keys" "$1/bare"
cd "$1"
days=365
config=$PWD/ca/openssl.cnf

cat >"$config" <<'CONFIG'
[req]
distinguished_name = dn
prompt = no
[dn]
[root]
basicConstraints = critical, CA:true
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[ca]
basicConstraints = critical, CA:true, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
[server]
basicConstraints = critical, CA:false
keyUsage = critical, digitalSignature, keyEncipherment
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = DNS:localhost, IP:127.0.0.1, IP:::1
[client]
basicConstraints = critical, CA:false
keyUsage = critical, digitalSignature
extendedKeyUsage = clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = DNS:client.example
CONFIG

make_key() { # TYPE FILE
    case $1 in
    rsa) openssl genpkey -quiet -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out "$2" ;;
    p256) openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$2" ;;
    p384) openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -out "$2" ;;
    p521) openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-521 -out "$2" ;;
    ed448) openssl genpkey -algorithm ED448 -out "$2" ;;
    ed25519) openssl genpkey -algorithm ED25519 -out "$2" ;;
    esac
}

sign() { # KEY SUBJECT ISSUER SECTION OUT
    openssl req -new -config "$config" -key "$1" -subj "$2" |
        openssl x509 -req -CA "ca/$3.crt" -CAkey "ca/$3.key" -days $days -extfile "$config" -extensions "$4" \
            -set_serial "0x$(openssl rand -hex 15)" -out "$5" 2>/dev/null
}

make_key rsa ca/root.key
openssl req -new -x509 -config "$config" -key ca/root.key -subj "/CN=luassl development root CA" -days $days \
    -extensions root -out ca/root.crt
make_key rsa ca/server-ca.key
sign ca/server-ca.key "/CN=luassl development server CA" root ca ca/server-ca.crt
cp ca/root.crt keys/rootcert.pem

leaf() { # NAME TYPE ROLE ISSUER ISSUERS...
    name=$1 type=$2 role=$3 issuer=$4
    shift 4
    make_key "$type" "bare/$name.key"
    subject=localhost
    [ "$role" = server ] || subject=client.example
    sign "bare/$name.key" "/CN=$subject" "$issuer" "$role" "bare/$name.leaf"
    cat "bare/$name.leaf" "bare/$name.key" "$@" >"keys/$name.pem"
    cat "bare/$name.leaf" "$@" >"bare/$name.crt"
    rm "bare/$name.leaf"
}

for type in rsa p256 p384 p521 ed25519 ed448; do
    leaf "server-$type" "$type" server server-ca ca/server-ca.crt ca/root.crt
    leaf "client-$type" "$type" client root ca/root.crt
done
# Keys of their own: one key under two identities is refused.
leaf server rsa server server-ca ca/server-ca.crt ca/root.crt
leaf client rsa client root ca/root.crt

openssl genpkey -genparam -algorithm DH -pkeyopt dh_param:ffdhe2048 -out keys/dhparams.pem 2>/dev/null
