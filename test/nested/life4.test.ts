import { describeLife } from './lifeTests.js';

describeLife(4);
