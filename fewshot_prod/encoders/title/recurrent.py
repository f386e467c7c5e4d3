"""Title encoder: a recurrent network over subword tokens, pooled by additive attention."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from fewshot_prod.encoders.attention import AdditiveAttention
from fewshot_prod.encoders.title.padding import token_mask


class TitleEncoder(nn.Module):
    """Token ids to one feature vector a title.

    Embedding, GRU (Cho et al. 2014) or LSTM (Hochreiter & Schmidhuber 1997), then the additive attention of
    Bahdanau et al. (ICLR 2015), ``e_ti = a(h_t, h_i)``, ``alpha_t = softmax(e_t)``, ``c_t = sum_i alpha_ti h_i``.
    Of the contexts c_t the feature is the one whose t is the title's end: the query is the final state (the last
    forward state beside, if bidirectional, the first backward one), so what is attended to depends on the title.

    Args:
        vocab_size: number of token ids; id 0 is padding.
        embedding_dim: size of a token's embedding.
        hidden_size: size of a state, in each direction.
        cell: "gru" or "lstm".
        bidirectional: whether to read each title from both ends.
        dropout: probability of zeroing, on the embeddings and on the feature.

    Attributes:
        recurrence: "packed" runs PyTorch's fused recurrence over packed sequences: fast, for training and
            evaluation. "masked" is a loop over time with the same weights and results, for ``torch.func.grad``,
            ``vmap`` and double backward, none of which packed sequences (or cuDNN's recurrences) support. It may be
            switched at any time.

    Example:
        >>> encoder = TitleEncoder(vocab_size=50, hidden_size=8)
        >>> encoder(torch.tensor([[7, 3, 0], [5, 0, 0]]), torch.tensor([2, 1])).shape, encoder.feature_dim
        (torch.Size([2, 16]), 16)
    """

    def __init__(
        self,
        vocab_size: int,
        *,
        embedding_dim: int = 128,
        hidden_size: int = 128,
        cell: Literal["gru", "lstm"] = "gru",
        bidirectional: bool = True,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        cells = {"gru": nn.GRU, "lstm": nn.LSTM}
        if cell not in cells:
            raise ValueError(f"cell is {cell!r}; choose one of {list(cells)}")
        self.cell = cell
        self.recurrence: Literal["packed", "masked"] = "packed"
        self.feature_dim = hidden_size * (2 if bidirectional else 1)
        self.embedding = nn.Embedding(vocab_size, embedding_dim, padding_idx=0)
        self.rnn = cells[cell](embedding_dim, hidden_size, batch_first=True, bidirectional=bidirectional)
        self.attention = AdditiveAttention(self.feature_dim, self.feature_dim, hidden_size)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Encode titles.

        Args:
            tokens: int64 (B, T), padded behind ``lengths``; what stands in the padding makes no difference.
            lengths: int64 (B,), 0 for a missing title.

        Returns:
            float (B, feature_dim). A missing title gives a zero vector: mask it, do not average it in.
        """
        return self.dropout(self._attend(tokens, lengths)[0])

    def elements(self, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """The state at each token, float (B, T, feature_dim), and bool (B, T) saying which tokens exist."""
        states, _, mask = self._read(tokens, lengths)
        return self.dropout(states), mask

    def attention_weights(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """The attention paid to each token: (B, T), sums to 1 over a title's tokens, 0 on padding."""
        return self._attend(tokens, lengths)[1]

    def _attend(self, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        states, final, mask = self._read(tokens, lengths)
        return self.attention(final, states, mask)

    def _read(self, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """States (B, T, feature_dim), final state (B, feature_dim) and the mask of tokens (B, T)."""
        mask = token_mask(tokens, lengths)
        embedded = self.dropout(self.embedding(tokens))
        recur = self._packed if self.recurrence == "packed" else self._masked
        return *recur(embedded, lengths, mask), mask

    def _packed(self, embedded: Tensor, lengths: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        # Packing refuses empty sequences: a missing title runs over one padding token, masked in the attention.
        packed = pack_padded_sequence(embedded, lengths.clamp(min=1).cpu(), batch_first=True, enforce_sorted=False)
        states, final = self.rnn(packed)
        hidden = final[0] if self.cell == "lstm" else final  # (directions, B, hidden)
        states, _ = pad_packed_sequence(states, batch_first=True, total_length=embedded.shape[1])
        return states, torch.cat(hidden.unbind(0), dim=-1)

    def _masked(self, embedded: Tensor, lengths: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        directions = ("", "_reverse") if self.rnn.bidirectional else ("",)
        runs = [self._run_direction(embedded, mask, suffix) for suffix in directions]
        return torch.cat([states for states, _ in runs], -1), torch.cat([final for _, final in runs], -1)

    def _run_direction(self, embedded: Tensor, mask: Tensor, suffix: str) -> tuple[Tensor, Tensor]:
        """States (B, T, hidden) and final state (B, hidden) of one direction; padding leaves the state as it is."""
        weight_ih, weight_hh, bias_ih, bias_hh = (
            getattr(self.rnn, f"{name}_l0{suffix}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        inputs = nn.functional.linear(embedded, weight_ih, bias_ih)  # (B, T, gates * hidden), all steps at once
        state = inputs.new_zeros(inputs.shape[0], self.rnn.hidden_size)
        memory = state  # the LSTM's cell state; unused by the GRU
        steps = range(inputs.shape[1])
        states: list[Tensor] = []
        for t in reversed(steps) if suffix else steps:
            recurrent = nn.functional.linear(state, weight_hh, bias_hh)
            new_state, new_memory = (
                _lstm_step(inputs[:, t] + recurrent, memory)
                if self.cell == "lstm"
                else (_gru_step(inputs[:, t], recurrent, state), memory)
            )
            real = mask[:, t].unsqueeze(1)
            state, memory = torch.where(real, new_state, state), torch.where(real, new_memory, memory)
            states.append(state)
        return torch.stack(states[::-1] if suffix else states, dim=1), state


def _gru_step(inputs: Tensor, recurrent: Tensor, state: Tensor) -> Tensor:
    """The next state, in the equations and gate order of ``torch.nn.GRU``."""
    reset_in, update_in, new_in = inputs.chunk(3, -1)
    reset_rec, update_rec, new_rec = recurrent.chunk(3, -1)
    update = torch.sigmoid(update_in + update_rec)
    candidate = torch.tanh(new_in + torch.sigmoid(reset_in + reset_rec) * new_rec)
    return (1 - update) * candidate + update * state


def _lstm_step(gates: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
    """The next state and cell state, in the equations and gate order of ``torch.nn.LSTM``."""
    input_gate, forget_gate, candidate, output_gate = gates.chunk(4, -1)
    memory = torch.sigmoid(forget_gate) * memory + torch.sigmoid(input_gate) * torch.tanh(candidate)
    return torch.sigmoid(output_gate) * torch.tanh(memory), memory
