#!/bin/sh
# Make the keys and signatures of this folder, with OpenSSL 3 alone: our own signer must agree with
# a tool that it shares no code with. The keys are for tests only and protect nothing.
#
# Running it makes new keys, and all files anew.
set -eu
umask 077
cd "$(dirname "$0")"
rm -rf keys signatures
mkdir keys signatures

pass='test 密码 pässword'

# The merchant's key in every form that is read.
cd keys
openssl genrsa -traditional -out pkcs1.pem 2048
openssl rsa -in pkcs1.pem -traditional -outform DER -out pkcs1.der
openssl pkcs8 -topk8 -nocrypt -in pkcs1.pem -out pkcs8.pem
openssl pkcs8 -topk8 -nocrypt -in pkcs1.pem -outform DER -out pkcs8.der
openssl base64 -A -in pkcs1.der -out pkcs1.b64
openssl base64 -in pkcs8.der -out pkcs8.b64 # wrapped at 64 characters

# Encrypted. The rounds of the first stand in three bytes, so that a test can raise them.
openssl pkcs8 -topk8 -v2 aes256 -iter 100000 -passout "pass:$pass" -in pkcs1.pem -out encrypted-pbes2.pem
openssl pkcs8 -topk8 -v2 aes256 -iter 100000 -passout "pass:$pass" -in pkcs1.pem -outform DER -out encrypted-pbes2.der
openssl base64 -A -in encrypted-pbes2.der -out encrypted-pbes2.b64
openssl pkcs8 -topk8 -scrypt -passout "pass:$pass" -in pkcs1.pem -out encrypted-scrypt.pem
openssl rsa -traditional -aes256 -passout "pass:$pass" -in pkcs1.pem -out encrypted-traditional.pem
openssl pkcs8 -topk8 -v1 PBE-SHA1-3DES -passout "pass:$pass" -in pkcs1.pem -out encrypted-outdated.pem

# Its public half, and a certificate of it.
openssl rsa -in pkcs1.pem -noout -modulus -out modulus.txt
openssl rsa -in pkcs1.pem -pubout -out public.pem
openssl rsa -in pkcs1.pem -pubout -outform DER -out public.der
openssl rsa -in pkcs1.pem -RSAPublicKey_out -out public-pkcs1.pem
openssl base64 -A -in public.der -out public.b64
openssl req -x509 -new -key pkcs1.pem -sha256 -days 36500 -subj "/CN=wxpay-async tests" -out certificate.pem
openssl x509 -in certificate.pem -outform DER -out certificate.der
openssl x509 -in certificate.pem -text -out certificate-with-text.pem

# A longer key.
openssl genrsa -out rsa3072.pem 3072
openssl rsa -in rsa3072.pem -pubout -out rsa3072-public.pem

# What must be refused.
openssl genrsa -out rsa1024.pem 1024
openssl rsa -in rsa1024.pem -pubout -out rsa1024-public.pem
openssl ecparam -name prime256v1 -genkey -out ec.pem # two blocks: parameters and key
openssl pkcs8 -topk8 -nocrypt -in ec.pem -out ec-pkcs8.pem
openssl pkcs8 -topk8 -nocrypt -in ec.pem -outform DER -out ec-pkcs8.der
openssl ec -in ec.pem -aes256 -passout "pass:$pass" -out ec-encrypted.pem
openssl ecparam -name secp384r1 -genkey -noout -outform DER -out ec-p384.der
openssl genpkey -algorithm ed25519 -out ed25519.pem
openssl pkcs12 -export -inkey pkcs1.pem -in certificate.pem -passout "pass:$pass" -out bundle.p12

# Messages, and what OpenSSL makes of them.
cd ../signatures
printf '' >empty.txt
printf 'appKey=k&bizContent={"requestId":"1"}&nonce=n&signType=RSA&timestamp=1573029856000' >ascii.txt
printf 'bizContent={"subject":"商品的标题 & 100%% = \360\237\230\200"}&signType=RSA' >unicode.txt
for name in empty ascii unicode; do
    openssl dgst -sha256 -sign ../keys/pkcs1.pem "$name.txt" | openssl base64 -A >"$name.rsa2048"
    openssl dgst -sha256 -sign ../keys/rsa3072.pem "$name.txt" | openssl base64 -A >"$name.rsa3072"
    { cat "$name.txt"; printf '&appSecret=192006250b4c09247ec02edce69f6a2d'; } |
        openssl dgst -md5 -r | cut -c1-32 | tr a-f A-F | tr -d '\n' >"$name.md5"
done

# Keys that are derived for the context "store": see `derive_key`.
printf '\0store' | openssl dgst -sha256 -sign ../keys/pkcs1.pem |
    openssl dgst -sha256 -r | cut -c1-64 >derived.rsa2048
printf 'store' |
    openssl dgst -sha256 -mac HMAC -macopt 'key:&appSecret=192006250b4c09247ec02edce69f6a2d' -r |
    cut -c1-64 >derived.md5
