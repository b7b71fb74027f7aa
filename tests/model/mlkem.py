"""ML-KEM-768 (FIPS 203), with its randomness passed in so that every output can be recomputed.

Names and algorithm numbers are the standard's. A polynomial is a list of 256 integers modulo q; a vector is a list of
K polynomials. This is a model: it is neither fast nor constant in time.
"""

import hashlib

from errors import Refused

Q = 3329
N = 256
K = 3
ETA = 2  # eta1 and eta2 are both 2 in ML-KEM-768
DU = 10
DV = 4
SEED_SIZE = 64  # d || z
EK_SIZE = 1184
CIPHERTEXT_SIZE = 1088

Polynomial = list[int]
Vector = list[Polynomial]


def keygen(seed: bytes) -> tuple[bytes, bytes]:
    """Algorithm 16, ML-KEM.KeyGen_internal: seed = d || z to (ek, dk)."""
    d, z = seed[:32], seed[32:]
    ek, dk_pke = pke_keygen(d)
    return ek, dk_pke + ek + h(ek) + z


def encapsulate(ek: bytes, m: bytes) -> tuple[bytes, bytes]:
    """Algorithm 17, ML-KEM.Encaps_internal, after the checks of algorithm 20: (shared secret, ciphertext)."""
    check_encapsulation_key(ek)
    secret, r = g(m + h(ek))
    return secret, pke_encrypt(ek, m, r)


def decapsulate(dk: bytes, ciphertext: bytes) -> bytes:
    """Algorithm 18, ML-KEM.Decaps_internal: the shared secret, a pseudo-random one if it is damaged."""
    if len(ciphertext) != CIPHERTEXT_SIZE:
        raise Refused("a KEM ciphertext has 1088 bytes")
    dk_pke, ek, hash_ek, z = dk[: 384 * K], dk[384 * K : 768 * K + 32], dk[-64:-32], dk[-32:]
    m = pke_decrypt(dk_pke, ciphertext)
    secret, r = g(m + hash_ek)
    if pke_encrypt(ek, m, r) != ciphertext:
        return hashlib.shake_256(z + ciphertext).digest(32)
    return secret


def check_encapsulation_key(ek: bytes) -> None:
    """Section 7.2: the length, and every coefficient below q."""
    if len(ek) != EK_SIZE:
        raise Refused("an encapsulation key has 1184 bytes")
    if encode_vector(12, decode_vector(12, ek[:-32])) != ek[:-32]:
        raise Refused("an encapsulation key has a coefficient that is not below q")


# K-PKE, section 5


def pke_keygen(d: bytes) -> tuple[bytes, bytes]:
    """Algorithm 13: (ek, dk)."""
    rho, sigma = g(d + bytes([K]))
    s = [ntt(noise(sigma, index)) for index in range(K)]
    e = [ntt(noise(sigma, K + index)) for index in range(K)]
    t = [add(dot(row, s), e[i]) for i, row in enumerate(matrix(rho))]
    return encode_vector(12, t) + rho, encode_vector(12, s)


def pke_encrypt(ek: bytes, m: bytes, r: bytes) -> bytes:
    """Algorithm 14: the ciphertext."""
    t, rho = decode_vector(12, ek[:-32]), ek[-32:]
    y = [ntt(noise(r, index)) for index in range(K)]
    e1 = [noise(r, K + index) for index in range(K)]
    e2 = noise(r, 2 * K)
    transposed = [list(column) for column in zip(*matrix(rho))]
    u = [add(inverse_ntt(dot(row, y)), e1[i]) for i, row in enumerate(transposed)]
    mu = decompress(1, decode(1, m))
    v = add(add(inverse_ntt(dot(t, y)), e2), mu)
    return encode_vector(DU, [compress(DU, part) for part in u]) + encode(DV, compress(DV, v))


def pke_decrypt(dk: bytes, ciphertext: bytes) -> bytes:
    """Algorithm 15: the message of 32 bytes."""
    split = 32 * DU * K
    u = [decompress(DU, part) for part in decode_vector(DU, ciphertext[:split])]
    v = decompress(DV, decode(DV, ciphertext[split:]))
    s = decode_vector(12, dk)
    product = inverse_ntt(dot(s, [ntt(part) for part in u]))
    return encode(1, compress(1, [(a - b) % Q for a, b in zip(v, product)]))


# Hashes and sampling, sections 4.1 and 4.2.2


def g(data: bytes) -> tuple[bytes, bytes]:
    """G: SHA3-512 in two halves."""
    digest = hashlib.sha3_512(data).digest()
    return digest[:32], digest[32:]


def h(data: bytes) -> bytes:
    """H: SHA3-256."""
    return hashlib.sha3_256(data).digest()


def matrix(rho: bytes) -> list[Vector]:
    """The matrix A, in the NTT domain: A[i][j] from rho || j || i."""
    return [[sample_ntt(rho + bytes([j, i])) for j in range(K)] for i in range(K)]


def sample_ntt(seed: bytes) -> Polynomial:
    """Algorithm 7. SHAKE128 is read from its start again, twice as far, in the rare case that it was not far enough."""
    size = 1008
    while True:
        stream = hashlib.shake_128(seed).digest(size)
        found = [d for i in range(0, size, 3) for d in candidates(stream[i : i + 3]) if d < Q]
        if len(found) >= N:
            return found[:N]
        size *= 2


def candidates(three: bytes) -> tuple[int, int]:
    """Two numbers of 12 bits from three bytes."""
    return three[0] + 256 * (three[1] % 16), three[1] // 16 + 16 * three[2]


def noise(seed: bytes, index: int) -> Polynomial:
    """PRF, then algorithm 8, SamplePolyCBD: a coefficient is (b0 + b1) - (b2 + b3) of the next four bits."""
    bits = int.from_bytes(hashlib.shake_256(seed + bytes([index])).digest(64 * ETA), "little")
    nibbles = ((bits >> (4 * i)) & 15 for i in range(N))
    return [((x & 3).bit_count() - (x >> 2).bit_count()) % Q for x in nibbles]


# Encoding and compression, section 4.2.1


def encode(d: int, polynomial: Polynomial) -> bytes:
    """Algorithm 5, ByteEncode: d bits a coefficient, the least significant first."""
    packed = sum(value << (d * i) for i, value in enumerate(polynomial))
    return packed.to_bytes(32 * d, "little")


def decode(d: int, data: bytes) -> Polynomial:
    """Algorithm 6, ByteDecode; with d = 12 modulo q."""
    packed, mask = int.from_bytes(data, "little"), (1 << d) - 1
    return [((packed >> (d * i)) & mask) % (Q if d == 12 else 1 << d) for i in range(N)]


def encode_vector(d: int, vector: Vector) -> bytes:
    """The polynomials one after the other."""
    return b"".join(encode(d, polynomial) for polynomial in vector)


def decode_vector(d: int, data: bytes) -> Vector:
    """K polynomials of 32 d bytes each."""
    return [decode(d, data[32 * d * i : 32 * d * (i + 1)]) for i in range(K)]


def compress(d: int, polynomial: Polynomial) -> Polynomial:
    """Formula 4.7: round(2^d / q * x) modulo 2^d. q is odd, so that nothing lies halfway."""
    return [((value << d) + Q // 2) // Q % (1 << d) for value in polynomial]


def decompress(d: int, polynomial: Polynomial) -> Polynomial:
    """Formula 4.8: round(q / 2^d * y), halves upwards."""
    return [(Q * value + (1 << d - 1)) >> d for value in polynomial]


# Arithmetic, section 4.3


def bit_reverse(value: int) -> int:
    """BitRev7."""
    return int(f"{value:07b}"[::-1], 2)


ZETAS = [pow(17, bit_reverse(i), Q) for i in range(128)]
GAMMAS = [pow(17, 2 * bit_reverse(i) + 1, Q) for i in range(128)]


def ntt(polynomial: Polynomial) -> Polynomial:
    """Algorithm 9."""
    f, i, length = list(polynomial), 1, 128
    while length >= 2:
        for start in range(0, N, 2 * length):
            for j in range(start, start + length):
                t = ZETAS[i] * f[j + length] % Q
                f[j + length], f[j] = (f[j] - t) % Q, (f[j] + t) % Q
            i += 1
        length //= 2
    return f


def inverse_ntt(polynomial: Polynomial) -> Polynomial:
    """Algorithm 10."""
    f, i, length = list(polynomial), 127, 2
    while length <= 128:
        for start in range(0, N, 2 * length):
            for j in range(start, start + length):
                t = f[j]
                f[j] = (t + f[j + length]) % Q
                f[j + length] = ZETAS[i] * (f[j + length] - t) % Q
            i -= 1
        length *= 2
    return [value * 3303 % Q for value in f]  # 3303 = 1/128


def multiply(a: Polynomial, b: Polynomial) -> Polynomial:
    """Algorithms 11 and 12, in the NTT domain."""
    product = []
    for i, gamma in enumerate(GAMMAS):
        a0, a1, b0, b1 = a[2 * i], a[2 * i + 1], b[2 * i], b[2 * i + 1]
        product += [(a0 * b0 + a1 * b1 * gamma) % Q, (a0 * b1 + a1 * b0) % Q]
    return product


def add(a: Polynomial, b: Polynomial) -> Polynomial:
    """The sum of two polynomials."""
    return [(x + y) % Q for x, y in zip(a, b)]


def dot(a: Vector, b: Vector) -> Polynomial:
    """The inner product of two vectors in the NTT domain."""
    total = [0] * N
    for x, y in zip(a, b):
        total = add(total, multiply(x, y))
    return total
