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
def odd(offset, data, /, is_odd):
    """Whether each text may be another writing of a text: by blanks, by what is not ASCII, or as a number.

    offset  int64  (N+1,)  text n is data[offset[n]:offset[n+1]]
    data    uint8  (D,)    UTF-8
    is_odd  bool   (N,)    out
    """
    for n in range(len(offset) - 1):
        first, last = offset[n], offset[n + 1]
        printable, number, point = True, True, False
        for at in range(first, last):
            byte = data[at]
            printable = printable and 33 <= byte <= 126
            point = point or byte == 46
            number = number and (48 <= byte <= 57 or byte == 46 or (at == first and (byte == 43 or byte == 45)))
        digit = first
        if first < last and (data[first] == 43 or data[first] == 45):
            digit += 1
        padded = digit + 1 < last and data[digit] == 48
        is_odd[n] = not printable or (number and (point or padded or (digit > first and data[first] == 43)))


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
