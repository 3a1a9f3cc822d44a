"""Encoding of account ids: texts as whole numbers that sort in the same order."""

from ._jit import kernel


@kernel
def find_symbols(offset, data, /, seen):
    """Find the bytes that occur at each position of the texts, up to L positions; symbol 0 is the end of a text.

    offset  int64  (N+1,)   text n is data[offset[n]:offset[n+1]]
    data    uint8  (D,)     UTF-8
    seen    bool   (L,257)  in/out, seen[p, 1 + b]: byte b occurs at position p of a text
    """
    for n in range(len(offset) - 1):
        length = offset[n + 1] - offset[n]
        for p in range(min(length, len(seen))):
            seen[p, 1 + data[offset[n] + p]] = True
        if length < len(seen):
            seen[length:, 0] = True


@kernel
def find_ambiguous(offset, data, /, is_ambiguous):
    """Find texts that may be another spelling of an id: with blanks, characters outside ASCII, or as a number.

    offset        int64  (N+1,)  text n is data[offset[n]:offset[n+1]]
    data          uint8  (D,)    UTF-8
    is_ambiguous  bool   (N,)    out
    """
    for n in range(len(offset) - 1):
        first, last = offset[n], offset[n + 1]
        printable, number, point = True, True, False
        for position in range(first, last):
            byte = data[position]
            printable = printable and 33 <= byte <= 126
            point = point or byte == 46
            number = number and (48 <= byte <= 57 or byte == 46 or (position == first and (byte == 43 or byte == 45)))
        digit = first
        if first < last and (data[first] == 43 or data[first] == 45):
            digit += 1
        padded = digit + 1 < last and data[digit] == 48
        is_ambiguous[n] = not printable or (number and (point or padded or (digit > first and data[first] == 43)))


@kernel
def encode(offset, data, place_value, /, number):
    """Number of each text: the sum of the place values of its symbols.

    offset       int64  (N+1,)   text n is data[offset[n]:offset[n+1]]
    data         uint8  (D,)     UTF-8
    place_value  int64  (L,257)  >= 0, of symbol 1 + b for byte b, of symbol 0 after the end; sums fit 63 bits
    number       int64  (N,)     out
    """
    for n in range(len(offset) - 1):
        length = offset[n + 1] - offset[n]
        total = 0
        for p in range(len(place_value)):
            total += place_value[p, 1 + data[offset[n] + p] if p < length else 0]
        number[n] = total
