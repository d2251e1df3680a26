import { describeLife } from './lifeTests.js';

// QEMU's guests with 1 and 2 vCPUs show its front; two more vCPUs would show nothing else, for minutes.
describeLife(4, ['kvm']);
