# SPDX-License-Identifier: Apache-2.0
"""pluri: one Transformer encoder for text, speech and images, pre-trained without labels."""

__version__ = "0.1.0"
