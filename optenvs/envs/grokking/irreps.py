"""Irreducible characters of a finite group, and the basis of its functions that they sort.

Characters are the common eigenvectors of convolutions by class functions. One such convolution, drawn so that
it is Hermitian, has them as its only eigenvectors, and an orthonormal basis of the class functions makes it
small. Irreps k and their conjugates belong together in what is real: such a pair, or a self-conjugate irrep,
is an *orbit* here. With the left regular representation, R_h e_g = e_hg, the projector onto the part of k is
Pi_k[x, y] = d_k/M conj(chi_k(x y^-1)).

Largest energies (x^2, all pairs, |w| = 1) are M/2d for irreps of real type, M/4d for a complex pair and for
quaternionic ones (the paper's theorem 2 has a quarter of the first two, and does not treat the third).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_TYPES = {1: "real", 0: "complex", -1: "quaternionic"}


@dataclass(frozen=True, eq=False)
class Irreps:
    """What is known of a group's irreducible representations. Orbit 0 is the trivial one.

    Attributes:
        characters: complex ``(C, M)``, a row an irrep; first by dimension, and the trivial one first of all.
        dims: d_k, ``(C,)``.
        indicators: of Frobenius and Schur, ``(C,)``: 1 real, 0 complex, -1 quaternionic.
        orbits: the numbers of the irreps of each orbit: one, or a complex pair.
        basis: orthonormal real functions on the group as columns, ``(M, M)``, orbit by orbit.
        owners: the orbit of each column, ``(M,)``.
    """

    characters: np.ndarray
    dims: np.ndarray
    indicators: np.ndarray
    orbits: tuple[tuple[int, ...], ...]
    basis: np.ndarray
    owners: np.ndarray

    @property
    def types(self) -> tuple[str, ...]:
        """``real``, ``complex`` or ``quaternionic``, of each orbit."""
        return tuple(_TYPES[int(self.indicators[orbit[0]])] for orbit in self.orbits)

    @property
    def largest_energies(self) -> np.ndarray:
        """The largest energy of a unit node in each orbit, ``(orbits,)``; 0 for the trivial one."""
        order = self.characters.shape[1]
        first = np.array([orbit[0] for orbit in self.orbits])
        energies = order / (np.where(self.indicators[first] == 1, 2, 4) * self.dims[first])
        energies[0] = 0.0
        return energies


def irreps_of(table: np.ndarray, identity: int, inverse: np.ndarray) -> Irreps:
    """The irreps of the group with this table."""
    characters = _characters(table, identity, inverse)
    dims = np.rint(np.real(characters[:, identity])).astype(np.int64)
    squares = table[np.arange(len(table)), np.arange(len(table))]
    indicators = np.rint(np.real(characters[:, squares]).mean(1)).astype(np.int64)
    orbits: list[tuple[int, ...]] = []
    for k, character in enumerate(characters):
        twin = int(np.abs(characters - character.conj()).max(1).argmin())
        if twin >= k:
            orbits.append((k,) if twin == k else (k, twin))
    quotient = table[:, inverse]  # x y^-1
    parts = []
    for orbit in orbits:
        projector = sum(dims[k] / len(table) * characters[k].conj()[quotient] for k in orbit)
        rank = int(sum(dims[k] ** 2 for k in orbit))
        parts.append(np.linalg.eigh(np.real(projector))[1][:, -rank:])
    owners = np.repeat(np.arange(len(orbits)), [part.shape[1] for part in parts])
    return Irreps(characters, dims, indicators, tuple(orbits), np.concatenate(parts, 1), owners)


def _characters(table: np.ndarray, identity: int, inverse: np.ndarray) -> np.ndarray:
    order = len(table)
    every = np.arange(order)
    least = table[table, inverse[:, None]].min(0)  # of x g x^-1, over x: names the class of g
    names, kind = np.unique(least, return_inverse=True)
    member = (kind[:, None] == np.arange(len(names))).astype(float)
    member /= np.sqrt(member.sum(0))
    rng, best = np.random.default_rng(0), (-1.0, np.empty(0))
    for _ in range(3):  # of three draws the one whose eigenvalues lie farthest apart
        drawn = rng.normal(size=len(names)) + 1j * rng.normal(size=len(names))
        weight = drawn[kind[every]] + drawn[kind[inverse]].conj()
        values, vectors = np.linalg.eigh(member.T @ weight[table[:, inverse]] @ member)
        apart = float(np.diff(values).min(initial=np.inf))
        best = max(best, (apart, member @ vectors), key=lambda pair: pair[0])
    found = best[1].T * np.sqrt(order)
    at_one = found[:, identity]
    found = found * (at_one.conj() / np.abs(at_one))[:, None]
    # the trivial one first; characters of a cyclic group by their frequency
    rounded = np.round(found, 6) + 0.0
    keys = [(round(row[identity].real), *(-row.real), *(-row.imag)) for row in rounded]
    return found[sorted(range(len(found)), key=keys.__getitem__)]
