"""Every error Homolog has a name for.

RegError
├─ NotFound           UnknownModel (UnknownAlias) · AmbiguousModel · UnknownMethod · UnknownTensor
│                     UnknownDevice
├─ BadInput           BadAddress · BadParameter · BadRecipe · BadSuite · BadListing · BadExport
│                     BadDocument · OutputExists · NothingToResume · StillNeeded · AliasTaken
├─ CorruptCheckpoint  EmptyCheckpoint · BadHeader · HeaderTooLarge · TruncatedFile · HoleInFile
│                     OverlappingTensors · DuplicateTensor · BadIndex · MissingShard · PathEscapes
│                     UnsafeFormat · DamagedDownload
├─ NotMergeable       NotHomologous · ShapeMismatch · MissingTensor · NonFinite · UnsupportedDtype
│                     LicenseConflict
├─ CatalogError       CatalogLocked · CatalogMissing · CatalogTooNew · CatalogChanged · CatalogDamaged
│                     SqlRefused · BadSql
├─ RunError           NotEnoughDisk · NotEnoughMemory · FileChanged · RunFailed
└─ SourceError        Offline · Unreadable · MissingExtra · HubRefused · HubMissing · HubRenamed · HubBusy
                      HubMoved · HubRejected · RequestsSpent · NotFetched · TooFarAway

An error says which model, file or tensor, the value that was wrong and the range that is right.
`hint` names what to type next. Anything that is not a `RegError` is our own bug.
"""


class RegError(Exception):
    """An error with a name, a sentence and, where there is one, the next command to type.

    Attributes:
        message: one sentence: what, where, the wrong value, the right range.
        hint: the next command or action; None when there is none.
    """

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    @property
    def kind(self) -> str:
        """The class name: stored in `problems.error` and printed by `--json`."""
        return type(self).__name__


class NotFound(RegError):
    """A name that means nothing here."""


class UnknownModel(NotFound):
    """No model in the catalog has this name, id or path."""


class UnknownAlias(UnknownModel):
    """No alias has this name."""


class AmbiguousModel(NotFound):
    """More than one model has this name or id prefix."""


class UnknownMethod(NotFound):
    """No merge method has this name."""


class UnknownTensor(NotFound):
    """No tensor of the model has this name."""


class UnknownDevice(NotFound):
    """This machine has no such device to compute on."""


class BadInput(RegError):
    """Something the user gave cannot be used."""


class BadAddress(BadInput):
    """An address that cannot be parsed or does not exist."""


class BadParameter(BadInput):
    """A parameter outside its range, or of the wrong kind."""


class BadRecipe(BadInput):
    """A recipe that cannot be understood."""


class BadSuite(BadInput):
    """A benchmark suite or result file that cannot be understood."""


class BadListing(BadInput):
    """A list of a hub's models that cannot be understood."""


class BadExport(BadInput):
    """A folder that is not the export of a catalog it says it is."""


class BadDocument(BadInput):
    """A JSON or YAML file that is too large, malformed, or has duplicate keys."""


class OutputExists(BadInput):
    """The output folder is not empty, or a living process is making it; nothing is ever overwritten."""


class NothingToResume(BadInput):
    """No unfinished run of this plan is there to go on with."""


class StillNeeded(BadInput):
    """A model that is to be removed, and that a recorded merge was made of or an alias names."""


class AliasTaken(BadInput):
    """An alias that names another model, and nobody said that it may be moved."""


class CorruptCheckpoint(RegError):
    """Files that are not a valid checkpoint."""


class EmptyCheckpoint(CorruptCheckpoint):
    """A folder or file without a single tensor."""


class BadHeader(CorruptCheckpoint):
    """A header that breaks its format."""


class HeaderTooLarge(CorruptCheckpoint):
    """A header longer than its file or than the limit of the format."""


class TruncatedFile(CorruptCheckpoint):
    """A file shorter or longer than its header says."""


class HoleInFile(CorruptCheckpoint):
    """Bytes that belong to no tensor."""


class OverlappingTensors(CorruptCheckpoint):
    """Bytes that belong to two tensors."""


class DuplicateTensor(CorruptCheckpoint):
    """One tensor name twice."""


class BadIndex(CorruptCheckpoint):
    """An index file that disagrees with its shards or breaks the format."""


class MissingShard(CorruptCheckpoint):
    """A shard that the index names and the folder lacks."""


class PathEscapes(CorruptCheckpoint):
    """A file name that leads out of its folder."""


class UnsafeFormat(CorruptCheckpoint):
    """Weights in a format that can run code when opened; listed, never opened."""


class DamagedDownload(CorruptCheckpoint):
    """Bytes from the Hub that are not those of the file it lists."""


class NotMergeable(RegError):
    """Models that this method cannot merge."""


class NotHomologous(NotMergeable):
    """Models that share no base."""


class ShapeMismatch(NotMergeable):
    """One tensor name, two shapes."""


class MissingTensor(NotMergeable):
    """A tensor that one of the models lacks."""


class NonFinite(NotMergeable):
    """NaN or infinity in a parent's weights or in the result."""


class UnsupportedDtype(NotMergeable):
    """A dtype the engine cannot compute with."""


class LicenseConflict(NotMergeable):
    """Models whose licences cannot all be obeyed by what is made of them."""


class CatalogError(RegError):
    """The catalog cannot do what was asked."""


class CatalogLocked(CatalogError):
    """Another process held the catalog for longer than we wait."""


class CatalogMissing(CatalogError):
    """There is no catalog file yet."""


class CatalogTooNew(CatalogError):
    """The catalog was written by a newer version."""


class CatalogChanged(CatalogError):
    """Another process took from the catalog what a running command looks at."""


class CatalogDamaged(CatalogError):
    """The file is not a catalog, or it cannot be opened."""


class SqlRefused(CatalogError):
    """A statement that would do more than read the catalog."""


class BadSql(CatalogError):
    """A statement that DuckDB could not parse, bind or finish."""


class RunError(RegError):
    """A merge that started and could not finish; no half model is left under the output's name."""


class NotEnoughDisk(RunError):
    """The output does not fit; a merge that has finished tensors by then can be resumed."""


class NotEnoughMemory(RunError):
    """What must be worked on at once does not fit into the memory of the machine, or of its accelerator."""


class FileChanged(RunError):
    """A parent's file changed under a running merge."""


class RunFailed(RunError):
    """The operating system refused a read or a write in the middle of a run."""


class SourceError(RegError):
    """A place that cannot be read now."""


class Offline(SourceError):
    """The address needs the network."""


class Unreadable(SourceError):
    """A file or folder that is missing or that the operating system refuses to read."""


class MissingExtra(SourceError):
    """An optional package is needed and not installed."""


class HubRefused(SourceError):
    """A repository of the Hub that may not be read or written: gated, disabled, or the token lacks the right."""


class HubMissing(SourceError):
    """No such repository, revision, file or collection on the Hub, or it is private."""


class HubRenamed(SourceError):
    """A repository of the Hub that has another name now; it was read under that one."""


class HubBusy(SourceError):
    """The Hub could not be reached, or had no time for us, several times in a row."""


class HubMoved(SourceError):
    """A branch of the Hub that somebody else moved while we were writing; nothing of ours is on it."""


class HubRejected(SourceError):
    """Something that the Hub does not take: a file too large, a card it cannot read."""


class RequestsSpent(SourceError):
    """The number of requests the user allowed is used up; what was read by then is kept."""


class NotFetched(SourceError):
    """Bytes of a file on the Hub of which only other pieces were fetched."""


class TooFarAway(SourceError):
    """Files on the Hub of which so much is needed that they had better be downloaded."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C in a run that can be resumed; its text says how far it came. Not an error: the user wanted it."""
