"""Examples of a record set as a network takes them: a photograph each, or both eyes of a patient."""

import dataclasses

import numpy as np

from dr_tf.fundus.prepare import resize_square


@dataclasses.dataclass(frozen=True)
class Examples:
    """`photographs`: {eye: uint8 [n, side, side, 3]}; `present`: {eye: bool [n]}. The one eye of a single photograph is None."""

    photographs: dict[str | None, np.ndarray]
    present: dict[str | None, np.ndarray]

    @classmethod
    def of(cls, records, rows, side):
        """Those of a record set; an eye that is not there is black."""
        black, present = np.zeros((side, side, 3), np.uint8), {eye: records.present(eye)[rows] for eye in records.eyes}
        photographs = {
            eye: [resize_square(records.photograph(row, eye), side) if here else black
                  for row, here in zip(rows, there, strict=True)]
            for eye, there in present.items()
        }  # fmt: skip
        return cls({eye: np.stack(of) for eye, of in photographs.items()}, present)

    def __len__(self):
        return len(next(iter(self.present.values())))

    def take(self, rows) -> "Examples":
        parts = ({eye: of[rows] for eye, of in each.items()} for each in (self.photographs, self.present))
        return Examples(*parts)

    def given(self) -> np.ndarray | dict[str, np.ndarray]:
        """What a network is called with."""
        if None in self.photographs:
            return self.photographs[None]
        return self.photographs | {f"{eye}_present": there for eye, there in self.present.items()}

    def eyes(self, values, i) -> dict:
        """{eye: its value} of example i, of {eye: [n, …]}; without an eye that is not there."""
        return {eye: values[eye][i] for eye, there in self.present.items() if there[i]}

    def changed(self, i, photographs) -> "Examples":
        """Example i once for each of `photographs`, {eye: [n, side, side, 3]}, which its eyes then show."""
        n = len(next(iter(photographs.values())))
        copies = self.take(np.full(n, i))
        return dataclasses.replace(copies, photographs=copies.photographs | photographs)


def by_eye(maps) -> dict[str | None, np.ndarray]:
    """The maps of an Explanation as {eye: maps}."""
    return maps if isinstance(maps, dict) else {None: maps}
