/** Lists the codes that lines are closed with, each by itself: a client has those alone that it knows what to do upon [ENV5]. */

export const normal = 1000;
export const goingAway = 1001;
export const protocolError = 1002;
export const invalidData = 1007;
export const tooLarge = 1009;
export const serviceRestart = 1012;

// 4000–4099: do not come back as you are.
export const protocolAbuse = 4001;
export const authenticationTimeout = 4003;
export const authenticationFailed = 4004;
export const identityChange = 4005;
export const unsupportedVersion = 4006;
export const replaced = 4010;
export const revoked = 4011;
export const tooManyDevices = 4012;

// 4100–4199: come back with backoff and resume.
export const internal = 4100;
export const slowConsumer = 4101;
export const silent = 4102;
export const rateLimited = 4103;
export const tokenExpired = 4104;
export const overloaded = 4105;
