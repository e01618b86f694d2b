/** Marks errors that tell people something by their message: where in the code they come from is of no use to the log. */

export class ExpectedError extends Error {}
