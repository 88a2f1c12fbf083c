"""How many parameters each part has, by formula from its dimensions.

c: visual channels (C), w: channels of a word (L).
"""


def linear(inputs, outputs):
    return inputs * outputs + outputs


def conv(kernel, inputs, outputs):
    return linear(kernel * kernel * inputs, outputs)


def norm(channels):
    return 2 * channels


def transformer_layer(width, ffn):
    """Before or after its norms: self-attention, then an MLP."""
    attention = linear(width, 3 * width) + linear(width, width)
    return 2 * norm(width) + attention + linear(width, ffn) + linear(ffn, width)


def swin(embed_dim, depths, heads, window, convolutional=False):
    """`convolutional`: CoSwin's embeddings, 7x7 in front and 3x3 between the stages.

    The outputs of stages 2 to 4 have norms of their own, as detection needs them.
    """
    total = conv(7 if convolutional else 4, 3, embed_dim) + norm(embed_dim)
    for i, (depth, head) in enumerate(zip(depths, heads, strict=True)):
        d = embed_dim * 2**i
        position_biases = (2 * window - 1) ** 2 * head
        total += depth * (transformer_layer(d, 4 * d) + position_biases)
        if i > 0:
            total += norm(d)
        if i < len(depths) - 1:
            plain = norm(4 * d) + 4 * d * 2 * d
            total += conv(3, d, 2 * d) + norm(2 * d) if convolutional else plain
    return total


def fpn(channels, c):
    """Laterals and outputs of P3 to P5, and P6 and P7."""
    return sum(linear(inputs, c) for inputs in channels) + (len(channels) + 2) * conv(3, c, c)


def bert(width, layers, vocabulary, positions):
    """Without the pooler; two token types."""
    embeddings = (vocabulary + positions + 2) * width + norm(width)
    return embeddings + layers * transformer_layer(width, 4 * width)


def clip_text(width, layers, vocabulary, positions):
    """Without the projection into CLIP's space."""
    embeddings = (vocabulary + positions) * width
    return embeddings + layers * transformer_layer(width, 4 * width) + norm(width)


def fusion(c, w, heads, head_channels):
    inner = heads * head_channels
    projections = 2 * linear(c, inner) + 2 * linear(w, inner) + linear(inner, c) + linear(inner, w)
    return projections + norm(c) + norm(w) + c + w  # LayerNorms, layer scale


def dynamic_conv(c):
    convolutions = 3 * (conv(3, c, c) + norm(c))  # with GroupNorm
    offsets_and_masks, scale_attention = conv(3, c, 27), linear(c, 1)
    dynamic_relu = linear(c, c // 4) + linear(c // 4, 4 * c)
    return convolutions + offsets_and_masks + scale_attention + dynamic_relu


def tower(blocks, c, w):
    """With eight fusion heads of 256 channels."""
    return blocks * (fusion(c, w, 8, 256) + transformer_layer(w, 4 * w) + dynamic_conv(c))


def grounding_head(c, w):
    words = linear(w, c) + w + 2  # projection, bias_lang, bias0, log_scale
    return words + linear(c, 4) + linear(c, 1) + 5  # boxes, centerness, a scale for each level


def contrast(c, w, embedding):
    return linear(c, embedding) + linear(w, embedding) + 1  # the temperature


def mlm_head(w, vocabulary):
    return linear(w, w) + norm(w) + linear(w, vocabulary)


def residual_unit(c):
    return linear(c, c // 2) + conv(3, c // 2, c // 2) + linear(c // 2, c)


def hourglass(inputs, c, scales, layers, norm=""):
    """Of each scale three units; the innermost one has a fourth. A norm leaves each hourglass."""
    reduction = linear(inputs, c) if inputs != c else 0
    norms = layers * 2 * c if norm else 0
    return reduction + layers * (3 * scales + 1) * residual_unit(c) + norms


def mask_head(inputs, w, c, scales, layers, norm=""):
    upsampling = 2 * 2 * c * c + c
    words = linear(w, c) + w + 1  # projection, bias_lang, log_scale
    return hourglass(inputs, c, scales, layers, norm) + upsampling + words
