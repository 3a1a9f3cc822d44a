"""Texts as whole numbers that sort as they do."""

from ._jit import kernel


@kernel
def symbols(offset, data, /, seen):
    """Which bytes stand at each place of the texts, as far as there are places; symbol 0 is a text that has ended.

    offset  int64  (N+1,)   text n is data[offset[n]:offset[n+1]]
    data    uint8  (D,)     UTF-8
    seen    bool   (L,257)  in/out, seen[p, 1 + b]: byte b stands at place p of a text
    """
    for n in range(len(offset) - 1):
        length = offset[n + 1] - offset[n]
        for p in range(min(length, len(seen))):
            seen[p, 1 + data[offset[n] + p]] = True
        if length < len(seen):
            seen[length:, 0] = True


@kernel
def packed(offset, data, worth, /, number):
    """Sum of the worth of every text's symbols.

    offset  int64  (N+1,)   text n is data[offset[n]:offset[n+1]]
    data    uint8  (D,)     UTF-8
    worth   int64  (L,257)  >= 0, of symbol 1 + b for byte b, of symbol 0 past the text's end; sums fit 63 bits
    number  int64  (N,)     out
    """
    for n in range(len(offset) - 1):
        length = offset[n + 1] - offset[n]
        total = 0
        for p in range(len(worth)):
            total += worth[p, 1 + data[offset[n] + p] if p < length else 0]
        number[n] = total
