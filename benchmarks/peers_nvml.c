/* What zeus and codecarbon ask of a GPU beside its energy. Weak: the stand-in's own answers, where
 * it has them, go first. */
#define WEAK __attribute__((weak))
enum { SUCCESS = 0, NOT_SUPPORTED = 3, AMPERE = 7 };
typedef void *Device;

WEAK int nvmlDeviceGetArchitecture(Device d, unsigned *a) { return (void)d, *a = AMPERE, SUCCESS; }
WEAK int nvmlDeviceGetMemoryInfo(Device d, unsigned long long *m) {
    (void)d;
    m[0] = m[1] = 1ull << 34; /* total, free */
    m[2] = 0;
    return SUCCESS;
}
WEAK int nvmlDeviceGetEnforcedPowerLimit(Device d, unsigned *mw) {
    return (void)d, *mw = 400000, SUCCESS;
}
WEAK int nvmlDeviceGetPowerUsage(Device d, unsigned *mw) { return (void)d, (void)mw, NOT_SUPPORTED; }
WEAK int nvmlDeviceGetTemperature(Device d, int sensor, unsigned *t) {
    return (void)d, (void)sensor, *t = 40, SUCCESS;
}
WEAK int nvmlDeviceGetUtilizationRates(Device d, unsigned *u) {
    return (void)d, u[0] = u[1] = 0, SUCCESS;
}
WEAK int nvmlDeviceGetC2cModeInfoV(Device d, void *info) {
    return (void)d, (void)info, NOT_SUPPORTED;
}
