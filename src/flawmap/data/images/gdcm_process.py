"""A process of its own in which GDCM decodes one picture: on some damaged ones it aborts its process.

python gdcm_process.py COLUMNS ROWS SAMPLES BITS < CODESTREAM > VALUES

The values are 8 or 16 bits wide, by the codestream's ``BITS``. It knows nothing else, so that it starts fast.
"""

import sys


def decoded(codestream: bytes, columns: int, rows: int, samples: int, bits: int) -> bytes:
    """The values of a JPEG of any process, row by row and colour by colour; empty if it is damaged."""
    import gdcm

    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(codestream)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    pixels = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    pixels.SetValue(fragments.__ref__())
    colours = gdcm.PhotometricInterpretation.RGB if samples == 3 else gdcm.PhotometricInterpretation.MONOCHROME2
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((columns, rows, 1))
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(colours))
    image.SetPixelFormat(gdcm.PixelFormat(samples, 8 if bits <= 8 else 16, bits, bits - 1, 0))
    # it chooses the process by the codestream
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14))
    image.SetDataElement(pixels)
    values = image.GetBuffer()  # bytes as a text, or None
    return b"" if values is None else values.encode("utf-8", "surrogateescape")


if __name__ == "__main__":
    values = decoded(sys.stdin.buffer.read(), *(int(word) for word in sys.argv[1:]))
    sys.stdout.buffer.write(values)
    sys.exit(not values)
